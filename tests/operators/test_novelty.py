from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from requests_ import SEED, idea, variant

from autoresearch_ray.lineage import schema
from autoresearch_ray.lineage.schema import Origin
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.operators.novelty import (
    MOST_FEATURES,
    MOST_REMEMBERED,
    Change,
    Remembered,
    change_of,
    features,
    likeness,
    recall,
)
from autoresearch_ray.variant import Status, ast_hash

DEEPER = SEED.replace("DEPTH = 3 ", "DEPTH = 4 ")
OTHER = SEED.replace("MATRIX_LR = 0.04", "MATRIX_LR = 0.02")
BIG = SEED.replace(
    "class MLP(nn.Module):\n",
    "class Gate(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.a = nn.Linear(C, C)\n"
    "        self.b = nn.Linear(C, C)\n\n    def forward(self, x):\n"
    "        return torch.sigmoid(self.a(x)) * self.b(x)\n\n"
    "class MLP(nn.Module):\n",
).replace("x = x + self.mlps[i](norm(x))", "x = x + self.gates[i](self.mlps[i](norm(x)))")


def change(name: str, source: str, parent: str = SEED, number: int = 1) -> Change:
    return change_of(name, source, variant(number, parent), ast_hash(source))


def remembering(*changes: Change) -> Remembered:
    remembered = Remembered()
    for each in changes:
        remembered.note(each)
    return remembered


def test_likeness_of_changes() -> None:
    deeper = features(DEEPER, SEED)
    assert likeness(deeper, deeper) == 1
    assert likeness(deeper, features(OTHER, SEED)) == 0
    assert likeness(features(SEED, SEED), features(SEED, SEED)) == 0
    assert likeness(deeper, features(SEED.replace("DEPTH = 3 ", "DEPTH = 5 "), SEED)) < 0.9
    noise = SEED.replace("MATRIX_LR = 0.04", "MATRIX_LR = 0.02001")
    assert likeness(features(OTHER, SEED), features(noise, SEED)) == 1
    commented = DEEPER.replace("DEPTH = 4 ", "DEPTH = 4  # deeper, because\n#") + "\n# the end\n"
    assert likeness(deeper, features(commented, SEED)) == 1
    twin = BIG.replace("torch.sigmoid(self.a(x)) * self.b(x)", "self.b(x) * torch.sigmoid(self.a(x))")
    assert 0.8 < likeness(features(BIG, SEED), features(twin, SEED)) < 1


def test_the_same_change_of_another_parent_is_the_same_change() -> None:
    moved = OTHER.replace("DEPTH = 3 ", "DEPTH = 4 ")
    assert features(moved, OTHER) == features(DEEPER, SEED)


def test_a_large_change_is_kept_small() -> None:
    rewritten = "\n".join(f"value_{number} = {number}" for number in range(5000))
    assert len(features(rewritten, SEED)) == MOST_FEATURES


def test_what_is_not_python_is_compared_by_lines() -> None:
    assert features("a = {\n", "b = {\n")
    assert features("same\n", "same\n") == frozenset()


def test_a_program_that_was_proposed_before_is_a_duplicate() -> None:
    remembered = remembering(change("a" * 12, DEEPER))
    objection = remembered.objection(change("b" * 12, DEEPER + "# again\n", OTHER, 2))
    assert objection is not None
    assert objection.certain
    assert objection.reason == "duplicate: the same program as aaaaaa"
    assert remembered.objection(change("a" * 12, DEEPER)) is None  # the same birth, asked again after a kill
    assert remembered.objection(change("b" * 12, OTHER)) is None


def test_only_what_failed_is_held_against_a_change() -> None:
    moved = change("b" * 12, OTHER.replace("DEPTH = 3 ", "DEPTH = 4 "), OTHER, 2)
    for outcome, objects in (
        (idea("a" * 12), True),
        (idea("a" * 12, Status.TIMED_OUT), True),
        (idea("a" * 12, Status.REJECTED), True),
        (idea("a" * 12, Status.COMPLETED, -0.01), True),
        (idea("a" * 12, Status.COMPLETED, -0.001), False),
        (idea("a" * 12, Status.COMPLETED, 0.01), False),
        (idea("a" * 12, Status.LOST), False),
    ):
        remembered = remembering(change("a" * 12, DEEPER))
        remembered.hear([outcome])
        assert (remembered.objection(moved) is not None) is objects, outcome


def test_on_the_same_parent_it_is_certain_and_on_another_it_may_be_insisted_on() -> None:
    remembered = remembering(change("a" * 12, DEEPER))
    remembered.hear([idea("a" * 12)])
    elsewhere = remembered.objection(change("b" * 12, OTHER.replace("DEPTH = 3 ", "DEPTH = 4 "), OTHER, 2))
    assert elsewhere is not None
    assert not elsewhere.certain
    assert elsewhere.reason == (
        "nearly the same change failed on another parent (aaaaaa, the idea of aaaaaaaaaaaa: crashed: RuntimeError: no)"
    )
    twin = SEED.replace("DEPTH = 3 ", "DEPTH = 4.0 ")
    here = remembered.objection(change("b" * 12, twin))
    assert here is not None
    assert here.certain
    assert "on the same parent" in here.reason


def test_the_oldest_are_forgotten() -> None:
    remembered = remembering(change("first", DEEPER))
    remembered.hear([idea("first")])
    for number in range(MOST_REMEMBERED):
        remembered.note(Change(str(number), "p", str(number), frozenset({number})))
    assert remembered.objection(change("b" * 12, DEEPER)) is None


def test_a_run_that_goes_on_remembers(tmp_path: Path) -> None:
    recall(tmp_path, Remembered())  # no run yet
    origin, child = Origin("run"), variant(2, DEEPER)
    with LineageStore.create(tmp_path / "run", "run") as store:
        store.append("variants", schema.variant_row(origin, variant(1, SEED), Status.COMPLETED))
        made = replace(child, parents=(variant(1, SEED).variant_id,), model="openai/test")
        store.append("variants", schema.variant_row(origin, made, Status.CRASHED, "no"))
        store.append("variants", schema.variant_row(origin, variant(3, OTHER), Status.COMPLETED))
    remembered = Remembered()
    recall(tmp_path / "run", remembered)
    objection = remembered.objection(change("b" * 12, DEEPER))
    assert objection is not None
    assert objection.reason == "duplicate: the same program as 222222"
    remembered.hear([idea(child.variant_id)])
    moved = remembered.objection(change("b" * 12, OTHER.replace("DEPTH = 3 ", "DEPTH = 4 "), OTHER, 3))
    assert moved is not None
    assert "222222" in moved.reason
    assert remembered.objection(change("b" * 12, OTHER)) is None  # made without a language model


def test_recognising_is_cheap() -> None:
    remembered = Remembered()
    for number in range(MOST_REMEMBERED):
        remembered.note(Change(str(number), "p", str(number), frozenset(range(number, number + 60))))
    remembered.hear([idea(str(number)) for number in range(MOST_REMEMBERED)])
    new, took = change("b" * 12, BIG), []
    for _ in range(3):
        began = time.process_time()
        remembered.objection(new)
        took.append(time.process_time() - began)
    assert min(took) < 0.05
