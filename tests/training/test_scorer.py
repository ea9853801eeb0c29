from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from small_data import ROWS, SEQUENCE_LENGTH, VOCAB_SIZE, make_data

from autoresearch_ray.errors import DataError
from autoresearch_ray.training import memory
from autoresearch_ray.training.data import open_data
from autoresearch_ray.training.scorer import Scoring, SharedMemory, Targets, negative_log_likelihoods, open_targets
from autoresearch_ray.training.session import REGION_BYTES, bits_per_byte

T, V = SEQUENCE_LENGTH, VOCAB_SIZE
Model = Callable[[torch.Tensor], torch.Tensor]
TABLE = torch.randn(V, V, generator=torch.Generator().manual_seed(1)) * 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def shared() -> object:
    size = memory.logits_bytes("cpu", T, V)
    both = SharedMemory(memory.allocate("tokens", 2 * REGION_BYTES), memory.allocate("logits", size), size)
    yield both
    both.close()


def score(targets: Targets, shared: SharedMemory, dtype: str, model: Model) -> tuple[Scoring, str | None]:
    """Play the variant: read rows, write logits, until there are no more rows or a rule is broken."""
    scoring = Scoring(targets, shared, dtype)
    refusal = None
    rows = scoring.send_rows()
    while rows is not None and refusal is None:
        x = np.empty((rows["rows"], rows["length"]), dtype=np.uint16)
        memory.read(shared.data, x.data, rows["offset"])
        logits = model(torch.from_numpy(x.astype(np.int64))).to(getattr(torch, dtype)).contiguous()
        memory.write(shared.logits, logits.view(torch.uint8).numpy().data, rows["logits_offset"])
        taken = scoring.take_logits()
        rows = scoring.send_rows()
        refusal = scoring.score(*taken)
    return scoring, refusal


def plain_bits_per_byte(folder: Path, table: np.ndarray) -> float:
    """Bits per byte of a table of bigram logits, in float64 and by nothing of ours."""
    rows = np.fromfile(folder / "val.bin", dtype=np.uint16).reshape(-1, T + 1).astype(int)
    sizes = np.load(folder / "token_bytes.npy")
    nats, total = 0.0, 0
    for row in rows:
        for x, y in pairwise(row):
            if sizes[y]:
                nats += math.log(np.exp(table[x]).sum()) - table[x][y]
                total += sizes[y]
    return nats / math.log(2) / total


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_score_is_that_of_a_plain_computation(folder: Path, shared: SharedMemory, dtype: str) -> None:
    scoring, refusal = score(open_targets(folder, "cpu"), shared, dtype, lambda x: TABLE[x])
    assert refusal is None
    rounded = TABLE.to(getattr(torch, dtype)).double().numpy()
    assert bits_per_byte(scoring.nats, scoring.bytes) == pytest.approx(plain_bits_per_byte(folder, rounded), abs=1e-5)


def test_every_row_is_sent_once_and_no_target_is(folder: Path, shared: SharedMemory) -> None:
    targets, seen = open_targets(folder, "cpu"), []

    def model(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.clone())
        return TABLE[x]

    score(targets, shared, "float32", model)
    assert len(seen) > 2
    np.testing.assert_array_equal(torch.cat(seen).numpy(), targets.rows[:, :-1])


def test_special_tokens_count_in_neither_sum(folder: Path, shared: SharedMemory) -> None:
    uniform, _ = score(open_targets(folder, "cpu"), shared, "float32", lambda x: torch.zeros(*x.shape, V))
    counted = np.load(folder / "token_bytes.npy")[open_data(folder).open_rows("val")[:, 1:]]
    assert (counted == 0).any()
    assert uniform.bytes == counted.sum()
    assert uniform.nats == pytest.approx((counted > 0).sum() * math.log(V), rel=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("last", [False, True])
def test_logits_that_are_no_numbers_are_refused(folder: Path, shared: SharedMemory, value: float, last: bool) -> None:
    batches = []

    def model(x: torch.Tensor) -> torch.Tensor:
        batches.append(len(x))
        logits = TABLE[x].clone()
        if not last or sum(batches) == ROWS["val"]:
            logits[-1, 3, 0] = value
        return logits

    _, refusal = score(open_targets(folder, "cpu"), shared, "float32", model)
    assert refusal == "non-finite logits"
    assert (len(batches) == 1) is not last


def test_tokens_may_be_ruled_out_but_not_the_true_one(folder: Path, shared: SharedMemory) -> None:
    targets = torch.tensor([1, 2])
    logits = torch.tensor([[0.0, 1.0, -math.inf], [0.0, 1.0, -math.inf]])
    losses = negative_log_likelihoods(logits, targets)
    assert losses.isfinite().tolist() == [True, False]


def test_no_loss_is_negative_however_sure_the_model_is() -> None:
    for scale in (1.0, 1e4, 1e30):
        logits = torch.randn(500, 40, generator=torch.Generator().manual_seed(2)) * scale
        assert (negative_log_likelihoods(logits, logits.argmax(-1)) >= 0).all()


def test_large_batches_are_scored_in_pieces_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(100, 40, generator=torch.Generator().manual_seed(3))
    targets = torch.arange(100) % 40
    whole = negative_log_likelihoods(logits, targets)
    monkeypatch.setattr("autoresearch_ray.training.scorer._LOGITS_A_PIECE", 300)
    torch.testing.assert_close(negative_log_likelihoods(logits, targets), whole, rtol=0, atol=0)


def test_what_is_scored_is_a_copy(folder: Path, shared: SharedMemory) -> None:
    scoring = Scoring(open_targets(folder, "cpu"), shared, "float32")
    scoring.send_rows()
    logits, _ = scoring.take_logits()
    memory.write(shared.logits, memoryview(b"\xff" * 4096), 0)
    assert not logits.any()


def test_memory_that_was_cut_is_refused(folder: Path) -> None:
    with tempfile.TemporaryFile() as file:
        os.ftruncate(file.fileno(), 100)
        size = memory.logits_bytes("cpu", T, V)
        tokens = memory.allocate("tokens", 2 * REGION_BYTES)
        scoring = Scoring(open_targets(folder, "cpu"), SharedMemory(tokens, file.fileno(), size), "float32")
        scoring.send_rows()
        with pytest.raises(EOFError):
            scoring.take_logits()
        os.close(tokens)


def test_targets_outside_the_vocabulary_are_damaged_data(tmp_path: Path) -> None:
    rows = np.fromfile(make_data(tmp_path) / "val.bin", dtype=np.uint16)
    rows[5] = V
    rows.tofile(tmp_path / "val.bin")
    with pytest.raises(DataError, match=r"val\.bin holds tokens"):
        open_targets(tmp_path, "cpu")
