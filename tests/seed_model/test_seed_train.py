"""train.py as a user runs it, and the promises of its model."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from fresh_module import SEED_MODEL

from autoresearch_ray.operators import tunables

SCRIPT = SEED_MODEL / "train.py"
BLOCK = [
    *("val_bpb", "training_seconds", "total_seconds", "peak_vram_mb", "mfu_percent"),
    *("total_tokens_M", "num_steps", "num_params_M", "depth"),
]

# Runs train.py in its own process, then looks at what it made.
INSPECT = """
import json, runpy, sys, torch
names = runpy.run_path(sys.argv[1])
model, T, V = names["model"].eval(), names["T"], names["VOCAB_SIZE"]
generator = torch.Generator().manual_seed(0)
rows = torch.randint(V, (4, T), generator=generator)
twins = rows.clone()
cut = T // 2 + 3
twins[:, cut:] = torch.randint(V, (4, T - cut), generator=generator)
with torch.no_grad():
    a, b, short = model(rows), model(twins), model(rows[:, :cut])
    alone = torch.cat([model(row[None]) for row in rows])
print(json.dumps({
    "shape": list(a.shape),
    "before": (a[:, :cut] - b[:, :cut]).abs().max().item(),
    "after": (a[:, cut:] - b[:, cut:]).abs().mean().item(),
    "shorter": (a[:, :cut] - short).abs().max().item(),
    "alone": (a - alone).abs().max().item(),
    "windows": names["windows"],
}))
"""


@pytest.fixture
def folder(prepare: ModuleType, texts: Path) -> Path:
    made: Path = prepare.prepare(prepare.Settings(str(texts), "byte", 257, 64, 2048, 2048))[0]
    return made


def run(folder: Path, *arguments: str, seed: int = 1, seconds: float = 0.5, source: Path = SCRIPT) -> str:
    environment = os.environ | {
        "PYTHONPATH": str(SEED_MODEL),
        "OMP_NUM_THREADS": "1",
        "AUTORESEARCH_DATA": str(folder),
        "AUTORESEARCH_DEVICE": "cpu",
        "AUTORESEARCH_SEED": str(seed),
        "AUTORESEARCH_TRAIN_SECONDS": str(seconds),
    }
    command = [sys.executable, *(arguments or (str(source),))]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_it_learns_and_ends_with_the_block(folder: Path) -> None:
    output = run(folder, seconds=2.0)
    body, _, block = output.partition("\n---\n")
    pairs = [re.fullmatch(r"(\w+): +([\d.]+)", line) for line in block.splitlines()]
    assert [pair[1] for pair in pairs if pair] == BLOCK
    assert len(pairs) == len(BLOCK)
    values = {pair[1]: float(pair[2]) for pair in pairs if pair}
    assert values["val_bpb"] < 6.0
    assert values["num_steps"] >= 5
    assert values["total_seconds"] >= values["training_seconds"] >= 1.9
    assert len(body.splitlines()) < 20


def test_the_model_looks_only_at_the_past(folder: Path) -> None:
    seen = json.loads(run(folder, "-c", INSPECT, str(SCRIPT)).splitlines()[-1])
    assert seen["shape"] == [4, 64, 257]
    assert seen["before"] < 1e-4
    assert seen["shorter"] < 1e-4
    assert seen["alone"] < 1e-4
    assert seen["after"] > 0.01
    assert min(seen["windows"]) < 64 == seen["windows"][-1]


def test_a_seed_changes_the_initial_weights(folder: Path) -> None:
    """That it changes the order of the data too is tested with the loader."""
    setup = "import sys; exec(open(sys.argv[1]).read().split('# Training\\n')[0]); print(model.embedding.weight.sum())"
    first, again, other = (run(folder, "-c", setup, str(SCRIPT), seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_a_loss_that_is_not_finite_ends_it(folder: Path, tmp_path: Path) -> None:
    source = re.sub(r"^EMBEDDING_LR = \S+", "EMBEDDING_LR = float('nan')", SCRIPT.read_text(), flags=re.MULTILINE)
    (tmp_path / "train.py").write_text(source)
    with pytest.raises(AssertionError, match="RuntimeError: the training loss is nan at step"):
        run(folder, source=tmp_path / "train.py")


def test_every_tunable_is_one_commented_literal() -> None:
    source = SCRIPT.read_text()
    found = tunables.find(source)
    names = [tunable.name for tunable in found]
    block = source.split("# Tunables.")[1].split("# ------")[0]
    assert names == re.findall(r"^([A-Z][A-Z0-9_]*) = ", block, re.MULTILINE)
    assert len(names) > 25
    used = {
        node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name) and type(node.ctx) is ast.Load
    }
    assert set(names) <= used


@pytest.mark.slow
@pytest.mark.parametrize("factor", [0.4, 2.5])
@pytest.mark.parametrize("group", range(4))
def test_large_steps_of_the_tunables_still_train(folder: Path, tmp_path: Path, factor: float, group: int) -> None:
    """A quarter of the tunables at a time, all multiplied."""
    source = SCRIPT.read_text()
    found = tunables.find(source)
    texts = {}
    for tunable in found[group::4]:
        if isinstance(tunable.value, bool):
            texts[tunable.key] = str(not tunable.value)
        elif isinstance(tunable.value, int):
            texts[tunable.key] = str(max(1, round(tunable.value * factor)))
        elif tunable.kind is tunables.Kind.UNIT:
            texts[tunable.key] = str(tunable.value**factor if tunable.value else 0.1)
        else:
            texts[tunable.key] = str(tunable.value * factor)
    (tmp_path / "train.py").write_text(tunables.write(source, found, texts))
    assert "val_bpb" in run(folder, source=tmp_path / "train.py")
