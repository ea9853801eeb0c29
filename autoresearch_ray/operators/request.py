"""What a language model is asked with: parents, ideas, the program and the contract. Frozen records, no behaviour.

Does not own how they are worded (prompt.py) or where they come from (the driver).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from autoresearch_ray.operators.tunables import Literals
from autoresearch_ray.variant import Birth, Status, Variant


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation with a language model."""

    role: Literal["system", "user", "assistant"]
    content: str
    stable: int = 0
    """So many characters at the beginning are the same in the run's other prompts: worth caching."""


@dataclass(frozen=True, slots=True)
class Contract:
    """What the evolved program has to keep."""

    file: str = "train.py"
    """Name of the file that evolves."""
    metric: str = "val_bpb"
    goal: Literal["minimize", "maximize"] = "minimize"
    scored: bool = True
    """True: prepare.py feeds and scores the program. False: the program measures itself and prints the metric."""


@dataclass(frozen=True, slots=True)
class Parent:
    """A parent and what is known of its score."""

    variant: Variant
    mean: float | None
    """Posterior mean of its score, in the metric's own direction; None before its first score."""
    error: float | None
    """Standard error of the mean, or None."""
    count: int
    """Trainings behind the mean."""
    curve: tuple[tuple[float, float], ...] = ()
    """(progress in [0, 1], training loss in nats a token) of one of its trainings."""


@dataclass(frozen=True, slots=True)
class Idea:
    """What another birth tried and how it ended."""

    variant_id: str
    hypothesis: str
    status: Status
    gain: float | None
    """How much better than its parent it scored: positive is better, whatever the metric's direction."""
    error: float | None
    """Standard error of the gain, or None."""
    reason: str
    """Empty when completed."""
    parents: tuple[str, ...] = ()
    """Their variant ids."""
    island: int | None = None
    tail: str = ""
    """Crashed only: the last lines that it printed, its traceback among them."""
    model: str | None = None
    """The language model that had the idea."""


@dataclass(frozen=True, slots=True)
class Crash:
    """How a variant that is to be repaired failed."""

    reason: str
    tail: str
    """The last that it printed."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The literals of a variant that was trained, or is being trained, and what came of it."""

    literals: Literals
    cost: float | None = None
    """Mean score, negated where higher is better; None: in flight, or it failed."""
    count: int = 0
    """Trainings behind the cost."""
    failed: bool = False
    """It crashed or ran out of time."""


@dataclass(frozen=True, slots=True)
class Request:
    """Everything that one prompt is made of."""

    birth: Birth
    parents: tuple[Parent, ...]
    """One for a mutation or a repair; two for a crossover, the better first. A reply edits the first one's source."""
    ancestor: Variant | None
    """Crossover: the parents' nearest common ancestor. Repair: the parent of what crashed, if it is known."""
    program: str
    """The text of program.md."""
    ideas: tuple[Idea, ...]
    """Newest first; which of them a prompt tells of, and in which order, is its own affair (ideas.py)."""
    facts: tuple[str, ...]
    """Plain sentences on budget, hardware and limits."""
    contract: Contract = Contract()
    trials: tuple[Trial, ...] = ()
    """`parameters` only: recent trainings and the best ones, oldest first; at most a few hundred."""
    sigma: float | None = None
    """Standard deviation of one score about a variant's true one; None: not known."""
    language: bool = True
    """False: answer offline, because no language model is configured, can be paid or answers."""
    crash: Crash | None = None
    """Repair only."""
    notes: str = ""
    """What the last reflection wrote down."""
    reflect: bool = False
    """True: write such notes anew before this birth."""

    def __reduce__(self) -> tuple[Callable[..., Request], tuple[Any, ...]]:
        """Pickle hundreds of trials as plain values: as objects they take longer than all else that a birth costs."""
        trials = [
            (trial.literals.settings, trial.literals.structure, trial.cost, trial.count, trial.failed)
            for trial in self.trials
        ]
        rest = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "trials"}
        return _request, (rest, trials)


def _request(rest: Mapping[str, Any], trials: Sequence[tuple[Any, ...]]) -> Request:
    """Undo `Request.__reduce__`."""
    return Request(
        **rest,
        trials=tuple(Trial(Literals(settings, structure), *known) for settings, structure, *known in trials),
    )
