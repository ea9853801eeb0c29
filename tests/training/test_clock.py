from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from autoresearch_ray.training import processes
from autoresearch_ray.training.clock import SAMPLE_SECONDS, CpuClock, GpuClock, ProcessTree, spent
from autoresearch_ray.training.processes import Usage

ROOT = 1


def tree(**used: tuple[int, float, float]) -> dict[int, Usage]:
    """`p7=(parent, own, reaped)` is process 7; all are born at their own number."""
    return {int(name[1:]): Usage(parent, float(name[1:]), own, reaped) for name, (parent, own, reaped) in used.items()}


@pytest.mark.parametrize(
    ("before", "after", "seconds"),
    [
        pytest.param(tree(p1=(0, 5, 3)), tree(p1=(0, 9, 3)), 0.0, id="the root's own seconds do not count"),
        pytest.param(tree(p1=(0, 0, 0)), tree(p1=(0, 0, 0), p7=(1, 2, 0)), 2.0, id="a new process"),
        pytest.param(tree(p1=(0, 0, 0), p7=(1, 2, 0)), tree(p1=(0, 0, 0), p7=(1, 5, 0)), 3.0, id="it goes on"),
        pytest.param(tree(p1=(0, 0, 0), p7=(1, 2, 0)), tree(p1=(0, 0, 6)), 4.0, id="it ended and was waited for"),
        pytest.param(tree(p1=(0, 0, 0), p7=(1, 2, 0)), tree(p1=(0, 0, 0)), 0.0, id="it ended and nobody waited"),
        pytest.param(tree(p1=(0, 0, 0)), tree(p1=(0, 0, 4)), 4.0, id="it came and went between two looks"),
        pytest.param(
            tree(p1=(0, 0, 0), p7=(1, 2, 1), p8=(7, 3, 0)), tree(p1=(0, 0, 9)), 3.0, id="a child and its parent ended"
        ),
        pytest.param(
            tree(p1=(0, 0, 0), p7=(1, 2, 0), p8=(7, 3, 0)),
            tree(p1=(0, 0, 2), p8=(1, 4, 0)),
            1.0,
            id="an orphan is taken over",
        ),
    ],
)
def test_seconds_of_a_tree(before: Mapping[int, Usage], after: Mapping[int, Usage], seconds: float) -> None:
    assert spent(before, after, ROOT) == pytest.approx(seconds)


def test_a_number_that_was_given_again_is_another_process() -> None:
    before = {1: Usage(0, 1.0, 0.0, 0.0), 7: Usage(1, 7.0, 50.0, 0.0)}
    after = {1: Usage(0, 1.0, 0.0, 50.0), 7: Usage(1, 8.0, 2.0, 0.0)}
    assert spent(before, after, ROOT) == pytest.approx(2.0)


class FakeTree(ProcessTree):
    def __init__(self) -> None:
        self.cpu_seconds = 0.0
        self.listed = 0.0
        self.looks: list[bool] = []

    def look(self, known_only: bool = False) -> None:
        self.looks.append(known_only)


def test_the_cpu_clock_counts_from_its_start_and_per_thread() -> None:
    now, processes_ = [0.0], FakeTree()
    clock = CpuClock(processes_, threads=2, now=lambda: now[0])
    processes_.cpu_seconds = 7.0
    assert clock.seconds() == 0.0
    clock.start()
    processes_.cpu_seconds = 10.0
    assert clock.seconds() == pytest.approx(1.5)


def test_the_cpu_clock_does_not_look_more_often_than_it_must() -> None:
    now, processes_ = [0.0], FakeTree()
    clock = CpuClock(processes_, threads=1, now=lambda: now[0])
    clock.start()
    for _ in range(10):
        clock.seconds()
    now[0] = SAMPLE_SECONDS
    clock.seconds()
    assert processes_.looks == [False, True, True]
    now[0] = 10.0
    clock.seconds()
    assert processes_.looks[-1] is False


def test_the_gpu_clock_runs_at_its_share() -> None:
    now = [5.0]
    clock = GpuClock(0.25, now=lambda: now[0])
    assert clock.seconds() == 0.0
    clock.start()
    now[0] = 13.0
    assert clock.seconds() == pytest.approx(2.0)


def test_real_processes_are_counted() -> None:
    program = "import subprocess, sys, time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\nsys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        seen = ProcessTree(os.getpid(), spared=0)
        assert child.stdout is not None
        child.stdout.readline()
        seen.look()
        assert child.pid in seen.members()
        assert seen.members()[child.pid] == processes.usage(child.pid).born  # type: ignore[union-attr]
        assert seen.cpu_seconds >= 0.25
        child.communicate(b"")


def test_a_process_with_a_used_number_is_not_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        used = processes.usage(child.pid)
        assert used is not None
        processes.kill(child.pid, born=used.born + 1)
        assert child.poll() is None
        processes.kill(child.pid, born=used.born)
        assert child.wait(30) == -9
    assert processes.usage(child.pid) is None
    processes.kill(child.pid)
