"""A smaller edition of benchmarks/honest_models.py: none that is honest is rejected, and evidence stays far from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import zoo
from judged import judge
from metric import T, V, make_text

from autoresearch_ray.training.data import open_data
from autoresearch_ray.training.evidence import ENOUGH
from autoresearch_ray.training.scorer import Targets, open_targets

ROWS = {"train": 400, "val": 96, "holdout": 8, "check": 24}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_text(tmp_path_factory.mktemp("honest") / "data", ROWS)


@pytest.fixture(scope="module")
def targets(folder: Path) -> Targets:
    return open_targets(folder, "cpu")


@pytest.mark.parametrize("name", zoo.BUILDS)
def test_an_honest_model_is_not_rejected(folder: Path, targets: Targets, name: str) -> None:
    number = list(zoo.BUILDS).index(name)
    precision, sent = ("float32", "bfloat16")[number % 2], ("float32", "bfloat16", "float32")[number % 3]
    model = zoo.build(name, V, T, number, 16, precision)
    rows = torch.from_numpy(np.array(open_data(folder).open_rows("train")).astype(np.int64))
    zoo.train(model, rows, 3, 1)
    judged = judge(targets, model, 7, sent)
    assert judged.rule is None
    assert max(max(logs) for logs in judged.scoring.evidence().values()) < 0.7 * ENOUGH


def test_a_model_that_knows_the_text_is_not_rejected(targets: Targets) -> None:
    """It expects most tokens rightly, as the best do, and those that stand in for them no more than it should."""
    counts = np.zeros((V, V))
    for rows in (targets.val, targets.check):
        np.add.at(counts, (rows[:, :-1].astype(int), rows[:, 1:].astype(int)), 1)
    table = torch.from_numpy(np.log((counts + 1e-3) / (counts + 1e-3).sum(1, keepdims=True))).float()
    judged = judge(targets, lambda x: table[x], 3)
    assert judged.rule is None
    assert judged.val_bpb < 2.4
