from __future__ import annotations

import math
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from small_data import SEQUENCE_LENGTH as T
from small_data import make_data

from autoresearch_ray.training import memory
from autoresearch_ray.training.data import TrainingOrder, open_data
from autoresearch_ray.training.limits import SupervisorSettings, Verdict
from autoresearch_ray.training.protocol import Batch, Evaluate, Hello, Logits, Message, ProtocolViolation
from autoresearch_ray.training.session import CURVE_POINTS, REGION_BYTES, AskScorer, Session, bits_per_byte, greeting
from autoresearch_ray.variant import Status

EVALUATE = Evaluate(parameters=12, peak_memory_bytes=34, dtype="float32")
ROWS = {"rows": {"rows": 2, "offset": 0, "logits_offset": 0, "length": T}}


class FakeClock:
    def __init__(self) -> None:
        self.started = False
        self.read = 0.0

    def start(self) -> None:
        self.started = True

    def seconds(self) -> float:
        return self.read


class Stage:
    """A session with a clock that stands still and a memory that can be read."""

    def __init__(self, folder: Path, holdout: bool = False) -> None:
        data = open_data(make_data(folder))
        settings = SupervisorSettings(folder, Path("prepare.py"), train_seconds=10.0)
        self.clock = FakeClock()
        self.memory = memory.allocate("tokens", 2 * REGION_BYTES)
        self.order = TrainingOrder(data.open_rows("train"), 1)
        self.session = Session(
            settings,
            data,
            TrainingOrder(data.open_rows("train"), 1),
            self.clock,
            self.memory,
            greeting(settings, data, seed=1, logits_bytes=4096),
            holdout,
            now=lambda: 100.0,
        )

    def answer(self, message: Message) -> object:
        return self.session.answer(message)

    def tokens(self, offset: int, batch: int, length: int) -> np.ndarray:
        tokens = np.empty((batch, length + 1), dtype=np.uint16)
        memory.read(self.memory, tokens.data, offset)
        return tokens


@pytest.fixture
def stage(tmp_path: Path) -> object:
    made = Stage(tmp_path)
    yield made
    os.close(made.memory)


@pytest.fixture
def greeted(stage: Stage) -> Stage:
    stage.answer(Hello())
    return stage


def test_hello_is_answered_with_the_constants(stage: Stage) -> None:
    hello = stage.answer(Hello())
    assert isinstance(hello, dict)
    assert (hello["sequence_length"], hello["seed"], hello["train_seconds"]) == (T, 1, 10.0)
    assert hello["data_bytes"] == 2 * REGION_BYTES


@pytest.mark.parametrize("message", [Batch(1, 1, None), EVALUATE, Logits()])
def test_nothing_comes_before_hello(stage: Stage, message: Message) -> None:
    with pytest.raises(ProtocolViolation, match="before hello"):
        stage.answer(message)


def test_hello_comes_once(greeted: Stage) -> None:
    with pytest.raises(ProtocolViolation, match="twice"):
        greeted.answer(Hello())


def test_batches_lie_in_two_regions_in_turn(greeted: Stage) -> None:
    for step in range(4):
        answer = greeted.answer(Batch(3, T, None))
        assert answer == {"offset": step % 2 * REGION_BYTES, "progress": 0.0}
        np.testing.assert_array_equal(greeted.tokens(step % 2 * REGION_BYTES, 3, T), greeted.order.draw(3, T))
    assert (greeted.session.record.steps, greeted.session.record.tokens) == (4, 12 * T)


def test_the_clock_starts_with_the_first_batch_and_ends_the_serving(greeted: Stage) -> None:
    assert not greeted.clock.started
    greeted.answer(Batch(1, T, None))
    assert greeted.clock.started
    assert greeted.session.moments.first_batch == 100.0
    greeted.clock.read = 4.0
    answer = greeted.answer(Batch(1, T, None))
    assert isinstance(answer, dict)
    assert answer["progress"] == pytest.approx(0.4)
    greeted.clock.read = 10.0
    for _ in range(2):
        assert greeted.answer(Batch(1, T, None)) == {"end": True, "progress": 1.0}
    assert greeted.session.record.steps == 2


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (Batch(1, T + 1, None), "a row has 16 tokens"),
        (Batch(2**40, 1, None), "too large"),
        (Batch(REGION_BYTES // 2 // (T + 1) + 1, T, None), "too large"),
    ],
)
def test_what_cannot_be_served_is_an_error_and_starts_no_clock(greeted: Stage, message: Message, words: str) -> None:
    answer = greeted.answer(message)
    assert isinstance(answer, dict)
    assert words in answer["error"]
    assert not greeted.clock.started
    assert greeted.session.verdict is None


def test_the_largest_batch_is_served(greeted: Stage) -> None:
    batch = REGION_BYTES // 2 // (T + 1)
    assert greeted.answer(Batch(batch, T, None)) == {"offset": 0, "progress": 0.0}


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_ends_the_experiment(greeted: Stage, loss: float) -> None:
    greeted.answer(Batch(1, T, loss))
    assert greeted.session.verdict is not None
    assert greeted.session.verdict.status is Status.CRASHED
    assert greeted.session.verdict.reason == f"the training loss is {loss}"


@pytest.mark.parametrize("count", [1, 100, 101, 1000])
def test_the_curve_keeps_at_most_100_points_spread_evenly(greeted: Stage, count: int) -> None:
    for i in range(count):
        greeted.clock.read = i / count
        greeted.answer(Batch(1, T, float(i)))
    curve = greeted.session.record.curve
    assert CURVE_POINTS / 3 < len(curve) <= CURVE_POINTS or count < CURVE_POINTS
    gaps = {b[1] - a[1] for a, b in pairwise(curve)}
    assert len(gaps) <= 1
    assert greeted.session.record.loss == count - 1


def test_a_model_that_was_never_trained_is_not_scored(greeted: Stage) -> None:
    greeted.answer(EVALUATE)
    assert greeted.session.verdict == Verdict(
        Status.CRASHED, "called evaluate_bpb without drawing a batch: nothing was trained"
    )


def test_a_model_is_scored_once_and_gets_no_batches_after(greeted: Stage) -> None:
    greeted.answer(Batch(1, T, None))
    greeted.clock.read = 3.0
    assert greeted.answer(EVALUATE) == AskScorer({"op": "begin", "dtype": "float32", "holdout": False})
    greeted.clock.read = 9.0
    greeted.session.tick()
    record = greeted.session.record
    assert (record.parameters, record.claimed_peak, record.train_seconds) == (12, 34, 3.0)
    for message, words in ((EVALUATE, "scores once"), (Batch(1, T, None), "no batches after evaluate_bpb")):
        answer = greeted.answer(message)
        assert isinstance(answer, dict)
        assert words in answer["error"]


def test_logits_come_only_when_asked_for(greeted: Stage) -> None:
    with pytest.raises(ProtocolViolation, match="not asked for"):
        greeted.answer(Logits())
    greeted.answer(Batch(1, T, None))
    greeted.answer(EVALUATE)
    with pytest.raises(ProtocolViolation, match="not asked for"):
        greeted.answer(Logits())
    assert greeted.session.hear_scorer(ROWS) == ROWS["rows"]
    assert greeted.answer(Logits()) == AskScorer({"op": "logits"})
    with pytest.raises(ProtocolViolation, match="not asked for"):
        greeted.answer(Logits())


def test_the_clock_runs_on_until_the_first_logits_come(greeted: Stage) -> None:
    greeted.answer(Batch(1, T, None))
    greeted.clock.read = 2.0
    greeted.answer(Batch(1, T, None))
    greeted.clock.read = 3.0
    greeted.answer(EVALUATE)
    greeted.clock.read = 7.0
    greeted.session.tick()
    assert (greeted.session.record.train_seconds, greeted.session.used_seconds) == (3.0, 7.0)
    greeted.session.hear_scorer(ROWS)
    greeted.answer(Logits())
    assert greeted.session.moments.answered == 100.0
    greeted.clock.read = 20.0
    greeted.session.tick()
    assert greeted.session.used_seconds == 7.0
    assert greeted.session.longest_step == 2.0


def test_the_scorers_sums_are_the_score(greeted: Stage) -> None:
    greeted.answer(EVALUATE)
    answer = greeted.session.hear_scorer({"val": [3 * math.log(2), 2], "holdout": [0.0, 0]})
    assert answer == {"val_bpb": pytest.approx(1.5)}
    assert greeted.session.verdict is not None
    assert greeted.session.verdict.status is Status.COMPLETED
    assert greeted.session.record.val_bpb == pytest.approx(1.5)
    assert greeted.session.record.holdout_bpb is None


def test_the_holdout_score_is_kept_and_never_told(tmp_path: Path) -> None:
    stage = Stage(tmp_path, holdout=True)
    stage.answer(Hello())
    stage.answer(Batch(1, T, None))
    asked = stage.answer(EVALUATE)
    assert isinstance(asked, AskScorer)
    assert asked.request["holdout"] is True
    answer = stage.session.hear_scorer({"val": [3 * math.log(2), 2], "holdout": [math.log(2), 4]})
    assert answer == {"val_bpb": pytest.approx(1.5)}
    assert stage.session.record.holdout_bpb == pytest.approx(0.25)
    os.close(stage.memory)


@pytest.mark.parametrize(
    ("heard", "status", "reason"),
    [
        ({"refused": "non-finite logits", "broke_rule": False}, Status.CRASHED, "non-finite logits"),
        ({"refused": "looks ahead", "broke_rule": True}, Status.REJECTED, "looks ahead"),
        ({"val": [1.0, 0]}, Status.CRASHED, "the score is not finite"),
        ({"val": [math.nan, 1]}, Status.CRASHED, "the score is not finite"),
    ],
)
def test_a_refused_model_has_no_score(greeted: Stage, heard: dict[str, object], status: Status, reason: str) -> None:
    greeted.answer(EVALUATE)
    greeted.session.hear_scorer(heard)
    assert greeted.session.verdict is not None
    assert (greeted.session.verdict.status, greeted.session.verdict.reason) == (status, reason)
    assert greeted.session.record.val_bpb is None


def test_bits_per_byte() -> None:
    assert bits_per_byte(8 * math.log(2), 4) == pytest.approx(2.0)
    assert bits_per_byte(1.0, 0) == math.inf
