import random

import pytest

from autoresearch_ray.evolution.ancestry import Ancestry


def family() -> Ancestry:
    #        0
    #      1   2
    #    3   4     5=(1,2)
    ancestry = Ancestry()
    for number, parents in enumerate([(), (0,), (0,), (1,), (1,), (1, 2)]):
        ancestry.record(number, parents)
    return ancestry


@pytest.mark.parametrize(
    ("first", "second", "ancestor"),
    [(3, 4, 1), (3, 2, 0), (3, 5, 1), (5, 2, 2), (5, 5, 5), (0, 4, 0), (2, 5, 2)],
)
def test_the_latest_common_ancestor(first: int, second: int, ancestor: int) -> None:
    assert family().common_ancestor(first, second) == ancestor
    assert family().common_ancestor(second, first) == ancestor


def test_strangers_have_none_and_are_not_related() -> None:
    ancestry = family()
    ancestry.record(6, ())
    assert ancestry.common_ancestor(6, 3) is None
    assert not ancestry.related(6, 3)


def test_related_is_the_same_or_a_line_of_descent() -> None:
    ancestry = family()
    assert ancestry.related(0, 5)
    assert ancestry.related(4, 4)
    assert not ancestry.related(3, 4)


def test_births_may_be_recorded_out_of_order() -> None:
    ancestry = Ancestry()
    ancestry.record(4, (1, 2))
    ancestry.record(1, (0,))
    assert ancestry.parents(4) == (1, 2)
    assert ancestry.parents(3) == ()
    assert len(ancestry) == 5


@pytest.mark.parametrize("parents", [(5,), (6,), (-1,), (0, 1, 2)])
def test_impossible_parents_are_refused(parents: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="birth 5 cannot have the parents"):
        Ancestry().record(5, parents)


def test_agrees_with_sets_of_ancestors_on_random_lineages() -> None:
    rng = random.Random(3)
    ancestry, above = Ancestry(), {0: {0}}
    ancestry.record(0, ())
    for number in range(1, 120):
        parents = rng.sample(range(number), k=min(number, rng.choice([1, 1, 2])))
        ancestry.record(number, parents)
        above[number] = {number}.union(*(above[parent] for parent in parents))
    for _ in range(500):
        first, second = rng.randrange(120), rng.randrange(120)
        assert ancestry.common_ancestor(first, second) == max(above[first] & above[second])
