"""Runs hostile programs through the real supervisor, and tells what they attempted from what came of it.

An attack is text of train.py. `Arena.attack` puts `attempt(name, act)` and `FACTS` before it and an honest training
after it, so that the verdict shows whether the experiment went on unharmed; `Arena.run` runs a text as it is.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from programs import BY_HAND, GREETED, HONEST, SCORED
from small_data import make_data

from autoresearch_ray.training import processes
from autoresearch_ray.training.sandbox.settings import Level, SandboxSettings
from autoresearch_ray.training.supervisor import Supervisor, SupervisorSettings
from autoresearch_ray.variant import Experiment, Result, Status

__all__ = ["BY_HAND", "GREETED", "HONEST", "SCORED"]

PREPARE = Path(__file__).parents[2] / "seed_model" / "prepare.py"
PATIENT = 60.0
KEY_REVERSED = b"6c1f-tnemnorivne-ruo-ni-yek-ks"
"""The key that our environment holds while attacks run, reversed: so a search does not find the searcher."""
KEY = ("OPENAI_API_KEY", bytes(reversed(KEY_REVERSED)).decode())
OPENED: list[Supervisor] = []
"""All that were ever opened."""
_MARK = "@attempt "

PRELUDE = """
import json, os, sys
FACTS = json.loads({facts!r})

def attempt(name, act):
    try:
        told = ["done", repr(act())[:300]]
    except BaseException as error:
        told = ["refused", f"{{type(error).__name__}}: {{error}}"[:300]]
    os.write(1, ("{mark}" + json.dumps([name, *told]) + "\\n").encode())

def in_child(act):
    'Call it in a child process; return what it returned.'
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, json.dumps(["done", act()]).encode())
        except BaseException as error:
            os.write(writer, json.dumps(["refused", f"{{type(error).__name__}}: {{error}}"]).encode())
        os._exit(0)
    os.close(writer)
    told = os.read(reader, 65536)
    os.close(reader)
    _, status = os.waitpid(child, 0)
    if not told:
        raise OSError(f"ended with {{os.waitstatus_to_exitcode(status)}}")
    kind, value = json.loads(told)
    if kind == "refused":
        raise OSError(value)
    return value
"""


MEGABYTE = 1 << 20
SHARE = SandboxSettings(
    memory_bytes=700 * MEGABYTE,
    scratch_bytes=64 * MEGABYTE,
    scratch_files=2000,
    processes=48,
    open_files=1024,
    output_bytes=4 * MEGABYTE,
)
"""What variants of the `small` arena may take."""


@dataclass(frozen=True)
class Attempts:
    """What an attack tried, and the result of the experiment that it was part of."""

    result: Result
    outcomes: Mapping[str, tuple[str, str]]
    """By name: `done` or `refused`, and the value or the error."""

    @staticmethod
    def told_by(result: Result) -> Attempts:
        """Read what an attack printed."""
        told = [json.loads(line[len(_MARK) :]) for line in result.log_tail.splitlines() if line.startswith(_MARK)]
        return Attempts(result, {name: (kind, value) for name, kind, value in told})

    def done(self) -> dict[str, str]:
        """Return the attempts that succeeded, with what they returned."""
        return {name: value for name, (kind, value) in self.outcomes.items() if kind == "done"}

    def refused(self) -> dict[str, str]:
        """Return the attempts that failed, with their errors."""
        return {name: error for name, (kind, error) in self.outcomes.items() if kind == "refused"}

    def assert_trained_honestly(self, expected: float | None = None) -> None:
        """Assert that the training was carried through and scored, in spite of what was tried before it."""
        assert (self.result.status, self.result.reason) == (Status.COMPLETED, ""), self.result.log_tail
        assert self.result.verified
        if expected is not None:
            assert self.result.val_bpb == expected

    def assert_all_refused(self, *names: str) -> None:
        """Assert that every attempt failed, that there was one, and that those in `names` were made."""
        assert self.outcomes, self.result.log_tail
        assert not self.done(), f"succeeded: {self.done()}"
        assert set(names) <= set(self.outcomes)


class Arena:
    """One warm supervisor, on tiny data."""

    def __init__(self, supervisor: Supervisor, settings: SupervisorSettings) -> None:
        self.supervisor = supervisor
        self.settings = settings

    def run(self, source: str, seed: int = 1) -> Result:
        """Run a program as it is."""
        *_, result = self.supervisor.run(Experiment("x-0", "x", source, seed))
        assert isinstance(result, Result)
        return result

    def attack(self, body: str, then: str = HONEST, **facts: Any) -> Attempts:
        """Run an attack, then (in the same process) an honest training.

        Args:
            body: Python that calls `attempt(name, act)`; may use `FACTS` and `in_child`.
            then: what follows it.
            facts: what the attacker has found out beforehand, as `FACTS`.
        """
        return Attempts.told_by(self.run(attacking(body, facts) + then))

    @property
    def launcher(self) -> int:
        """The launcher's process."""
        return self._crew.pid

    @property
    def scorer(self) -> int:
        """The scorer's process."""
        return self._crew.scorer_pid

    @property
    def slot_folder(self) -> Path:
        """The folder of the slot, which holds the library and the scratch folders."""
        return self._crew.folder

    @property
    def _crew(self) -> Any:
        self.supervisor.warm_up()
        return self.supervisor._crew


def attacking(body: str, facts: Mapping[str, Any]) -> str:
    """Return an attack's text, with what it may use before it."""
    return PRELUDE.format(facts=json.dumps(facts, default=str), mark=_MARK) + textwrap.dedent(body)


def quick_and_slow(attacks: Mapping[str, Any], *quick: str) -> list[Any]:
    """Return the names of attacks as parameters of a test; all but the quick ones are slow tests."""
    assert set(quick) <= set(attacks)
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in attacks]


@contextmanager
def opened(folder: Path, level: Level = "required", **changes: Any) -> Iterator[Arena]:
    """Open an arena of its own.

    Args:
        folder: where prepared data are made, unless `changes` name others under `data`; must be empty.
        level: how strict the sandbox is.
        changes: to `SupervisorSettings`; `walls` is a `SandboxSettings`. By default nothing that is seen depends on
            how busy the machine is.
    """
    patient = SupervisorSettings(
        data=changes.pop("data", None) or make_data(folder / "data"),
        prepare=PREPARE,
        train_seconds=0.1,
        startup_seconds=PATIENT,
        scoring_seconds=PATIENT,
        grace_seconds=PATIENT,
        longest_training_seconds=PATIENT,
        exit_seconds=PATIENT,
    )
    walls = changes.pop("walls", SandboxSettings())
    settings = replace(patient, sandbox=replace(walls, level=level), **changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(*KEY)  # in our environment when the launcher starts
        supervisor = Supervisor(settings)
    OPENED.append(supervisor)
    with supervisor:
        yield Arena(supervisor, settings)


@dataclass(frozen=True)
class Watched:
    """The result of an experiment, and the most that it took while it ran."""

    result: Result
    processes: int
    memory: int
    """Bytes that were missing from what the whole machine had available."""
    disk: int
    """Bytes that were missing from the disk of temporary files."""


def watched(arena: Arena, source: str) -> Watched:
    """Run a program, and look at the machine from outside meanwhile."""
    memory, disk = _free_memory(), shutil.disk_usage(tempfile.gettempdir()).free
    most = taken = filled = 0
    for item in arena.supervisor.run(Experiment("x-0", "x", source, 1)):
        if isinstance(item, Result):
            return Watched(item, most, taken, filled)
        most = max(most, len(processes.descendants(arena.launcher, (arena.scorer,))))
        taken = max(taken, memory - _free_memory())
        filled = max(filled, disk - shutil.disk_usage(tempfile.gettempdir()).free)
    raise AssertionError("no result")


def _free_memory() -> int:
    with open("/proc/meminfo") as lines:
        available = next(line for line in lines if line.startswith("MemAvailable:"))
    return 1024 * int(available.split()[1])
