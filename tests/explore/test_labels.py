from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch_ray.explore.labels import Box, Wish, nearest, place

BOUNDS = Box(0, 0, 1000, 600)
WISHES = st.lists(
    st.builds(Wish, st.floats(0, 1000), st.floats(0, 600), st.floats(20, 300), st.floats(8, 20)), max_size=20
)


@settings(max_examples=60, deadline=None)
@given(wishes=WISHES, walls=st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 600)), max_size=10))
def test_no_label_covers_anything(wishes: list[Wish], walls: list[tuple[float, float]]) -> None:
    obstacles = [Box(x, y, x + 40, y + 30) for x, y in walls]
    boxes = place(wishes, obstacles, BOUNDS)
    assert len(boxes) == len(wishes)
    found = [box for box in boxes if box is not None]
    for number, box in enumerate(found):
        assert box.within(BOUNDS)
        assert not any(box.meets(other) for other in [*obstacles, *found[number + 1 :]])
    for wish, box in zip(wishes, boxes, strict=True):
        if box is not None:
            line = ((wish.x, wish.y), nearest(box, wish.x, wish.y))
            assert not any(other.crossed(*line) for other in found if other is not box)


def test_the_first_choice_is_below_to_the_left() -> None:
    [box] = place([Wish(500, 300, 100, 10)], [], BOUNDS)
    assert box is not None
    assert (box.right < 500, box.top < 300) == (True, True)


def test_what_does_not_fit_is_left_out() -> None:
    assert place([Wish(500, 300, 2000, 10)], [], BOUNDS) == [None]


def test_a_line_crosses_a_box_or_does_not() -> None:
    box = Box(10, 10, 20, 20)
    assert box.crossed((0, 0), (30, 30))
    assert box.crossed((15, 0), (15, 30))
    assert not box.crossed((0, 0), (9, 9))
    assert not box.crossed((0, 15), (9, 15))
    assert not box.crossed((0, 25), (30, 25))
