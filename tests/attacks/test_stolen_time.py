"""Trains longer than its budget: before the first batch, in children, past the deadline, while it is scored."""

from __future__ import annotations

import re

import pytest
from arena import GREETED, HONEST, SCORED, Arena, quick_and_slow

from autoresearch_ray.variant import Result, Status

NEVER_BEGINS = {
    "computes": "while True: pass",
    "says hello for ever": GREETED + "time.sleep(1e6)",
    "does not hear": "import signal, time\nfor n in range(1, 32):\n    try: signal.signal(n, signal.SIG_IGN)\n"
    "    except (OSError, ValueError): pass\nwhile True:\n    try:\n        while True: time.sleep(1)\n"
    "    except BaseException: pass",
    "stops itself": "import os, signal\nwhile True: os.kill(os.getpid(), signal.SIGSTOP)",
    "hides behind a child": "import os, time\nif os.fork(): os._exit(0) if os.fork() == 0 else time.sleep(1e6)\n"
    "while True: time.sleep(1)",
}


@pytest.mark.parametrize("name", quick_and_slow(NEVER_BEGINS, "does not hear", "hides behind a child"))
def test_what_never_begins_is_ended(strict: Arena, name: str) -> None:
    result = strict.run(NEVER_BEGINS[name])
    assert (result.status, result.reason) == (Status.TIMED_OUT, "drew no batch within 3 s")
    assert result.wall_seconds < 30


def test_nothing_is_trained_without_a_batch(walled: Arena) -> None:
    """Training before the first batch would be free, but there is nothing to train on: then it is not scored either."""
    without = re.sub(r"for x, y in loader:.*?(?=val_bpb =)", "", HONEST, flags=re.DOTALL)
    result = walled.run(without)
    assert result.status is Status.CRASHED
    assert result.reason == "called evaluate_bpb without drawing a batch: nothing was trained"
    assert (result.val_bpb, result.tokens) == (None, 0)


PAST_THE_END = {
    "goes on with the batch it has": GREETED + "batch()\nwhile True: pass",
    "asks for more for ever": GREETED + "while True: batch()",
    "hoards batches, then trains": GREETED + "for _ in range(50): batch()\nwhile True: sum(range(10**6))",
    "trains in a thread": GREETED
    + "import threading\nthreading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()\n"
    "batch(); time.sleep(1e6)",
    "trains in a child": GREETED + "batch()\nif os.fork() == 0:\n    while True: pass\ntime.sleep(1e6)",
    "trains in a daemon": GREETED + "batch()\nif os.fork() == 0:\n    os.setsid()\n    if os.fork(): os._exit(0)\n"
    "    while True: pass\ntime.sleep(1e6)",
    "catches every stop": GREETED + "def go():\n    try:\n        while True: batch()\n    except BaseException: go()\n"
    "sys.setrecursionlimit(10**6)\ngo()",
}


@pytest.mark.parametrize("name", quick_and_slow(PAST_THE_END, "hoards batches, then trains", "trains in a daemon"))
def test_the_budget_ends_whoever_computes(strict: Arena, name: str) -> None:
    result = strict.run(PAST_THE_END[name])
    assert result.status is Status.TIMED_OUT
    assert result.reason.startswith(
        ("did not call evaluate_bpb within 0.2 s of the end", "training took longer than 3 s")
    )
    assert result.train_seconds < 3
    assert result.val_bpb is None


def test_a_loader_that_is_stalled_gains_no_time(strict: Arena) -> None:
    """Whoever sleeps uses nothing of its budget, so the wall-clock limit ends it."""
    result = strict.run(GREETED + "batch(); time.sleep(1e6)")
    assert result.status is Status.TIMED_OUT
    assert "training took longer than 3 s of wall-clock time" in result.reason


def test_no_batch_comes_after_the_budget(walled: Arena) -> None:
    ask_on = GREETED + "while 'end' not in batch(): pass\nmore = [batch() for _ in range(20)]\nprint('more=', more)\n"
    result = walled.run(ask_on + SCORED.removeprefix(GREETED))
    assert result.status is Status.COMPLETED
    assert "'offset'" not in next(line for line in result.log_tail.splitlines() if line.startswith("more="))
    late = SCORED.replace("answer = evaluate()", "answer = evaluate()\nassert 'offset' not in batch()")
    assert walled.run(late).status is Status.COMPLETED


BURN = """
import os, resource, signal, time
SHARE = 0.05

def burn():
    'Compute for SHARE CPU seconds, as a training would.'
    end = time.process_time() + SHARE
    while time.process_time() < end:
        pass

def burn_in_children(count):
    for _ in range(count):
        if os.fork() == 0:
            burn()
            os._exit(0)
        WAIT

def wait_until_they_are_gone():
    while True:
        try: os.wait()
        except ChildProcessError: return
"""
HIDDEN = {
    "children that are waited for": ("os.wait()", ""),
    "children that nobody waits for": ("wait_until_they_are_gone()", "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"),
    "orphans": (
        "os.wait()",
        "inner, once = burn, os.fork\n"
        "def burn():\n    if once() == 0:\n        inner()\n        os._exit(0)\n    time.sleep(0.001)\n",
    ),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_seconds_of_short_lived_children_are_counted(walled: Arena, name: str) -> None:
    """Two CPU seconds in forty children that come and go between two looks."""
    wait, before = HIDDEN[name]
    source = GREETED + BURN.replace("WAIT", wait) + before + "batch()\nburn_in_children(40)\n"
    source += "if FAST: time.sleep(4)\n".replace("FAST", str(name == "orphans")) + SCORED.removeprefix(GREETED)
    result = walled.run(source)
    assert result.status is Status.COMPLETED, result.reason
    assert result.train_seconds > 1.8


LEARNS_WHILE_SCORED = (
    SCORED.partition("answer = evaluate()")[0]
    + """
child = os.fork()
if child == 0:
    while True: sum(range(10**6))  # goes on training
answer = evaluate()
while "rows" in answer:
    answer = ask({"op": "logits"})
os.write(1, b"child=%d\\n" % child)
"""
)


def test_a_child_that_trains_on_is_dead_when_the_experiment_ends(walled: Arena) -> None:
    result = walled.run(LEARNS_WHILE_SCORED)
    child = int(re.findall(r"child=(\d+)", result.log_tail)[-1])
    assert not alive(child)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_scoring_that_never_ends_is_ended(strict: Arena) -> None:
    stop, fork = "os.kill(os.getpid(), signal.SIGSTOP)", "[os.fork() for _ in range(3)]; time.sleep(1e6)"
    for slow in ("time.sleep(1e6)", "while True: pass", stop, fork):
        result = strict.run(GREETED + f"batch(); evaluate()\n{slow}")
        assert (result.status, result.reason) == (Status.TIMED_OUT, "scoring took longer than 0.5 s")


def test_the_time_that_it_tells_is_not_the_time_that_is_recorded(walled: Arena) -> None:
    """Patched clocks change what the variant prints, and nothing else."""
    patched = "import time\ntime.time = time.monotonic = time.perf_counter = time.process_time = lambda: 0.0\n"
    block = "print('---')\nprint('training_seconds: 1.0')\nprint('total_tokens_M: 9999')\nprint('num_steps: 123456')\n"
    result: Result = walled.run(patched + HONEST + block)
    assert result.status is Status.COMPLETED
    assert 0.1 <= result.train_seconds < 10
    assert result.tokens == result.steps * 64
    assert result.steps != 123456
