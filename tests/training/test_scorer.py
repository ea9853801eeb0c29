from __future__ import annotations

import math
import os
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from judged import Held, Judged, judge, token_memory
from small_data import ROWS, SEQUENCE_LENGTH, VOCAB_SIZE, make_data

from autoresearch_ray.errors import DataError
from autoresearch_ray.training import memory
from autoresearch_ray.training.data import open_data
from autoresearch_ray.training.plan import Kind
from autoresearch_ray.training.scorer import (
    HostLogits,
    LogitsMemory,
    Scoring,
    Targets,
    negative_log_likelihoods,
    open_targets,
    plan_for,
)

T, V = SEQUENCE_LENGTH, VOCAB_SIZE
TABLE = torch.randn(V, V, generator=torch.Generator().manual_seed(1)) * 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def targets(folder: Path) -> Targets:
    return open_targets(folder, "cpu")


def plain_bits_per_byte(folder: Path, table: np.ndarray, split: str = "val") -> float:
    """Bits per byte of a table of bigram logits, in float64 and by nothing of ours."""
    rows = np.fromfile(folder / f"{split}.bin", dtype=np.uint16).reshape(-1, T + 1).astype(int)
    sizes = np.load(folder / "token_bytes.npy")
    nats, total = 0.0, 0
    for row in rows:
        for x, y in pairwise(row):
            if sizes[y]:
                nats += math.log(np.exp(table[x]).sum()) - table[x][y]
                total += sizes[y]
    return nats / math.log(2) / total


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_score_is_that_of_a_plain_computation(folder: Path, targets: Targets, dtype: str) -> None:
    judged = judge(targets, lambda x: TABLE[x], 1, dtype)
    assert judged.rule is None
    rounded = TABLE.to(getattr(torch, dtype)).double().numpy()
    assert judged.val_bpb == pytest.approx(plain_bits_per_byte(folder, rounded), abs=1e-5)
    assert judged.scoring.sums["holdout"].bytes == 0


def test_the_score_is_the_same_whatever_else_is_sent_and_in_which_order(targets: Targets) -> None:
    scores = [judge(targets, lambda x: TABLE[x], seed).val_bpb for seed in range(3)]
    assert max(scores) - min(scores) < 1e-9


def test_the_holdout_rows_are_scored_among_the_others(folder: Path, targets: Targets) -> None:
    judged = judge(targets, lambda x: TABLE[x], 1, holdout=True)
    exact = TABLE.double().numpy()
    assert judged.val_bpb == pytest.approx(plain_bits_per_byte(folder, exact), abs=1e-5)
    assert judged.holdout_bpb == pytest.approx(plain_bits_per_byte(folder, exact, "holdout"), abs=1e-5)
    scored = judged.scoring.plan.row[judged.scoring.plan.kind == Kind.SCORE]
    assert sorted(scored.tolist()) == list(range(ROWS["val"] + ROWS["holdout"]))


def test_no_last_target_is_ever_sent(folder: Path) -> None:
    rows = np.fromfile(folder / "val.bin", dtype=np.uint16).reshape(-1, T + 1)
    marked, seen = open_targets(folder, "cpu"), []
    marked.val[:, -1] = 7  # a token that appears nowhere else
    for split in (marked.val[:, :-1], marked.check, marked.successors._rows):
        split[split == 7] = 8

    def model(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.clone())
        return TABLE[x]

    judged = judge(marked, model, 1)
    assert len(torch.cat(seen)) == len(judged.scoring.plan) > len(rows)
    assert not (torch.cat(seen) == 7).any()


def test_special_tokens_count_in_neither_sum(folder: Path, targets: Targets) -> None:
    uniform = judge(targets, lambda x: torch.zeros(*x.shape, V), 1).scoring.sums["val"]
    counted = np.load(folder / "token_bytes.npy")[open_data(folder).open_rows("val")[:, 1:]]
    assert (counted == 0).any()
    assert uniform.bytes == counted.sum()
    assert uniform.nats == pytest.approx((counted > 0).sum() * math.log(V), rel=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("last", [False, True])
def test_logits_that_are_no_numbers_are_refused(targets: Targets, value: float, last: bool) -> None:
    batches: list[int] = []
    total = judge(targets, lambda x: TABLE[x], 1).scoring.plan.batches

    def model(x: torch.Tensor) -> torch.Tensor:
        batches.append(len(x))
        logits = TABLE[x].clone()
        if not last or len(batches) == total:
            logits[-1, 3, 0] = value
        return logits

    refused = judge(targets, model, 1).refusal
    assert refused is not None
    assert (refused.reason, refused.broke_rule) == ("non-finite logits", False)
    assert len(batches) == (total if last else 1)


def test_tokens_may_be_ruled_out_but_not_the_true_one(targets: Targets) -> None:
    losses = negative_log_likelihoods(
        torch.tensor([[0.0, 1.0, -math.inf], [0.0, 1.0, -math.inf]]), torch.tensor([1, 2])
    )
    assert losses.isfinite().tolist() == [True, False]
    rows = targets.val.astype(np.int64)
    seen = np.zeros((V, V), dtype=bool)
    seen[rows[:, :-1], rows[:, 1:]] = True
    assert not seen.all()
    table = TABLE.masked_fill(torch.from_numpy(~seen), -math.inf)
    assert judge(targets, lambda x: table[x], 1).rule is None  # stand-ins and twins may show what it rules out
    seen[rows[0, 0], rows[0, 1]] = False
    table = TABLE.masked_fill(torch.from_numpy(~seen), -math.inf)
    assert judge(targets, lambda x: table[x], 1).rule == "non-finite logits"


def test_constants_and_scales_of_logits_gain_nothing(targets: Targets) -> None:
    plain = judge(targets, lambda x: TABLE[x], 1).val_bpb
    assert judge(targets, lambda x: TABLE[x] + 1000.0 * x[..., None], 1).val_bpb == pytest.approx(plain, abs=1e-3)
    assert judge(targets, lambda x: TABLE[x] + 1e4, 1).val_bpb == pytest.approx(plain, abs=1e-3)
    huge = judge(targets, lambda x: TABLE[x] * 1e30, 1)
    assert huge.refusal is not None or huge.val_bpb > plain


def test_no_loss_is_negative_however_sure_the_model_is() -> None:
    for scale in (1.0, 1e4, 1e30):
        logits = torch.randn(500, 40, generator=torch.Generator().manual_seed(2)) * scale
        assert (negative_log_likelihoods(logits, logits.argmax(-1)) >= 0).all()


def test_large_batches_are_scored_in_pieces_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(100, 40, generator=torch.Generator().manual_seed(3))
    wanted = torch.arange(100) % 40
    whole = negative_log_likelihoods(logits, wanted)
    monkeypatch.setattr("autoresearch_ray.training.scorer._LOGITS_A_PIECE", {"cpu": 300})
    torch.testing.assert_close(negative_log_likelihoods(logits, wanted), whole, rtol=0, atol=0)


def scoring_with(targets: Targets, tokens: int, logits: LogitsMemory) -> Scoring:
    rng = np.random.default_rng(1)
    return Scoring(targets, plan_for(targets, logits.size, "float32", False, rng), tokens, logits, "float32", rng)


def test_what_is_scored_is_a_copy(targets: Targets) -> None:
    size = memory.logits_bytes("cpu", T, V)
    descriptor = memory.allocate("logits", size)
    shared = HostLogits(descriptor, size)
    with token_memory() as tokens:
        scoring = scoring_with(targets, tokens, shared)
        scoring.send_rows()
        logits = scoring.take_logits()
        memory.write(descriptor, memoryview(b"\xff" * 4096), 0)
        assert not logits.any()
    shared.close()


def test_memory_that_was_cut_is_refused(targets: Targets) -> None:
    with tempfile.TemporaryFile() as file, token_memory() as tokens:
        os.ftruncate(file.fileno(), 100)
        scoring = scoring_with(targets, tokens, HostLogits(file.fileno(), memory.logits_bytes("cpu", T, V)))
        scoring.send_rows()
        with pytest.raises(EOFError):
            scoring.take_logits()


def test_the_memory_bounds_the_batch(targets: Targets) -> None:
    with token_memory() as tokens:
        assert scoring_with(targets, tokens, Held(4 * T * V * 3)).plan.batch == 3
        assert scoring_with(targets, tokens, Held(1 << 30)).plan.batch == memory.TOKENS_A_BATCH["cpu"] // T


@pytest.mark.parametrize("split", ["val", "holdout", "check"])
def test_targets_outside_the_vocabulary_are_damaged_data(tmp_path: Path, split: str) -> None:
    rows = np.fromfile(make_data(tmp_path) / f"{split}.bin", dtype=np.uint16)
    rows[5] = V
    rows.tofile(tmp_path / f"{split}.bin")
    with pytest.raises(DataError, match=rf"{split}\.bin holds tokens"):
        open_targets(tmp_path, "cpu")


def test_a_single_row_is_scored_too(tmp_path: Path) -> None:
    counts = {"train": 2, "val": 1, "holdout": 1, "check": 1}
    folder = make_data(tmp_path, counts)
    judged: Judged = judge(open_targets(folder, "cpu"), lambda x: TABLE[x], 1)
    assert judged.rule is None
    assert judged.val_bpb == pytest.approx(plain_bits_per_byte(folder, TABLE.double().numpy()), abs=1e-5)
