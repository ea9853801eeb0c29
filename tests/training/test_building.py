"""Programs built on the meta device, in a process of their own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoresearch_ray.training import building
from autoresearch_ray.training.building import Builder, Terms

SEED = (Path(__file__).parents[2] / "seed_model" / "train.py").read_text(encoding="utf-8")
CPU = Terms(max_seq_len=128, vocab_size=256, train_seconds=10, device="cpu", memory_bytes=2**30)
CUDA = Terms(max_seq_len=2048, vocab_size=8192, train_seconds=300, device="cuda", memory_bytes=40 * 2**30)


@pytest.fixture(scope="module")
def cpu() -> Iterator[Builder]:
    with Builder(CPU) as builder:
        yield builder


@pytest.fixture(scope="module")
def cuda() -> Iterator[Builder]:
    with Builder(CUDA) as builder:
        yield builder


def changed(old: str, new: str) -> str:
    assert SEED.count(old) == 1
    return SEED.replace(old, new)


def test_the_seed_can_be_built_for_both_devices(cpu: Builder, cuda: Builder) -> None:
    assert cpu.refusal(SEED) is None
    assert cuda.refusal(SEED) is None


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("self.output = nn.Linear(n_hidden, C, bias=False)", "self.output = nn.Linear(C, C)", "RuntimeError"),
        ("HEAD_DIM = 32 ", "HEAD_DIM = '32' ", "TypeError"),
        ("x = x + self.mlps[i](norm(x))", "x = x + self.mlps[i](norm(z))", "NameError: name 'z' is not"),
        ("loader = make_dataloader(B, T)", "loader = make_dataloader(B, 2 * T)", "needs B >= 1 and 1 <= T <="),
        ("head_dim = max(8, HEAD_DIM", "head_dim = max(7, HEAD_DIM // 0", "ZeroDivisionError"),
        ("optimizer.step(lr_schedule", "optimizer.stepp(lr_schedule", "has no attribute 'stepp'"),
    ],
    ids=["shape", "type", "name", "loader", "division", "optimizer"],
)  # fmt: skip
def test_what_would_crash_in_its_first_steps_is_refused_with_its_line(
    cpu: Builder, old: str, new: str, says: str
) -> None:
    refusal = cpu.refusal(changed(old, new))
    assert refusal is not None
    assert refusal.startswith("the program fails before its first steps are done: ")
    assert says in refusal
    assert "(line " in refusal
    assert "\n" not in refusal


def test_shapes_of_the_gpus_branch_are_checked_without_a_gpu(cuda: Builder) -> None:
    refusal = cuda.refusal(changed("* (4 if on_gpu else 1)", "* (4 if on_gpu else 1) + 1"))
    assert refusal is not None
    assert "RuntimeError" in refusal


def test_too_much_memory_is_refused_with_both_numbers(cpu: Builder, cuda: Builder) -> None:
    assert cpu.refusal(changed("WIDTH = 64 ", "WIDTH = 8192 ")) is not None
    refusal = cuda.refusal(
        changed("2**17 if on_gpu", "2**19 if on_gpu").replace("BATCH_TOKENS = 2048", "BATCH_TOKENS = 8192")
    )
    assert refusal is not None
    assert refusal.startswith("the program would need about ")
    assert refusal.endswith("and a slot has 40.0 GiB")
    assert Builder(Terms(2048, 8192, 300, "cuda", None))._too_large(2**50) is None


@pytest.mark.parametrize(
    "old_new",
    [
        ("step, passes,", "if torch.rand(3).sum() > 1: print('lucky')\nstep, passes,"),
        ("step, passes,", "import scipy_is_not_here\nstep, passes,"),
        ("step, passes,", "print(open('/nowhere').read())\nstep, passes,"),
        ("step, passes,", "values = torch.ones(3).numpy()\nstep, passes,"),
        ("step, passes,", "import os; os._exit(3)\nstep, passes,"),
        ("step, passes,", "print('dry run: {{}}', flush=True); import os; os._exit(0)\nstep, passes,"),
    ],
    ids=["content", "import", "file", "numpy", "exit", "lie"],
)
def test_what_cannot_be_told_without_content_passes(cpu: Builder, old_new: tuple[str, str]) -> None:
    assert cpu.refusal(changed(*old_new)) is None


def test_a_program_that_hangs_is_ended_and_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "LONGEST_SECONDS", 0.5)
    with Builder(CPU) as builder:
        builder.refusal("x = 1\n")
        began = time.monotonic()
        assert builder.refusal("while True:\n    pass\n") is None
        assert time.monotonic() - began < 10
        monkeypatch.undo()
        assert builder.refusal("1 / 0\n") is not None


def test_a_builder_that_is_killed_is_replaced(cpu: Builder) -> None:
    cpu.refusal(SEED)
    assert cpu._client is not None
    cpu._client.close()
    assert cpu.refusal(changed("HEAD_DIM = 32 ", "HEAD_DIM = '32' ")) is None
    assert cpu.refusal(changed("HEAD_DIM = 32 ", "HEAD_DIM = '32' ")) is not None


def test_a_warm_builder_takes_no_longer_than_a_process_start(cpu: Builder) -> None:
    cpu.refusal(SEED)
    took = []
    for _ in range(3):
        began = time.monotonic()
        cpu.refusal(SEED)
        took.append(time.monotonic() - began)
    assert min(took) < 2.0
