"""Builds what a language model, an agent or a person is asked, within a limit of tokens. Pure.

Owns the order of the parts, and what is left out of a prompt that is too long. Does not own the words (wording.py),
which ideas are told (ideas.py), or the call (llm.py).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autoresearch_ray.operators import ideas, wording
from autoresearch_ray.operators.edit import one_line
from autoresearch_ray.operators.ideas import Told
from autoresearch_ray.operators.quoting import Data, quoted
from autoresearch_ray.operators.request import Contract, Message, Parent, Request
from autoresearch_ray.variant import Operator, Variant

MOST_NOTES = 12
"""Lines that a reflection may write."""
_SHORT = 6
_LONGEST_LINE = 300
_CRASH_LINES = 40
_CURVE_POINTS = 8
_HEADING = re.compile(r"(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*")
_CODE_FENCE = re.compile(r" {0,3}(```|~~~)")
_PARENTS = {Operator.MUTATION: 1, Operator.CROSSOVER: 2, Operator.REPAIR: 1}


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is sent, and where it comes from."""

    messages: tuple[Message, ...]
    tokens: int
    """As counted; above the limit when nothing is left that may be left out."""
    left_out: tuple[str, ...]
    """What was left out to keep within the limit, in that order."""


def compose(request: Request, limit: int, count: Callable[[Sequence[Message]], int], *, edited: bool = False) -> Prompt:
    """Word a request within a limit of tokens.

    Left out where it is too long, in this order and only as far as needed: ideas from elsewhere, the oldest first; the
    logs of what crashed nearby; ideas from nearby; the best ideas, the least of them first; the notes; the training
    curves; the second parent's source (what it changed stays); what the first parent, or the version that crashed,
    changed. Never left out: the contract, how to answer, the program, the facts, the first parent's source, what the
    second parent changed, and how a version to be repaired crashed.

    Args:
        request: what to word; its operator is `mutation` with one parent, `crossover` with two and an ancestor, or
            `repair` with the version that crashed and how.
        limit: tokens that the prompt may have.
        count: counts the tokens of messages.
        edited: the answer is an edited file, not a text: for agents, which find the sources in their folder.

    Raises:
        ValueError: the operator asks no language model, or has the wrong number of parents.
    """
    _check(request)
    order = _omissible(request, ideas.choose(request), edited=edited)

    def worded(left_out: int) -> tuple[tuple[Message, ...], int]:
        composed = messages(request, frozenset(order[:left_out]), edited=edited)
        return composed, count(composed)

    low, best = 0, worded(0)
    high, shortest = len(order), best
    if best[1] > limit:
        shortest = worded(high)
        while low + 1 < high:  # `low` is too long; `high` fits, or is all that can be left out
            middle = (low + high) // 2
            tried = worded(middle)
            if tried[1] <= limit:
                high, shortest = middle, tried
            else:
                low = middle
    else:
        high = 0
    return Prompt(*shortest, tuple(order[:high]))


def messages(request: Request, omitted: frozenset[str] = frozenset(), *, edited: bool = False) -> tuple[Message, ...]:
    """Return the system's and the user's message, without the omitted parts (see `compose`)."""
    operator, contract = request.birth.operator, request.contract
    words = {"file": contract.file, "metric": contract.metric, "goal": _direction(contract)}
    system = wording.SYSTEM.format(
        operator=operator.value,
        shown=wording.SHOWN[operator],
        contract=wording.SCORED if contract.scored else wording.REPORTED.format(**words),
        answer=(wording.EDIT if edited else wording.REPLY).format(**words),
        **words,
    )
    first = _direction_of_search(request)
    parts: list[str | Data] = [*first, *_notes(request, omitted), *_parents(request, omitted, edited=edited)]
    parts += _crash(request)
    parts += _tried(request, omitted)
    basis = (wording.BASIS_EDITED if edited else wording.BASIS)[operator].format(**words)
    parts += ["# Your task", wording.TASKS[operator].format(basis=basis, basis_inside=basis, **words)]
    stable = len("\n\n".join(first)) if first else 0
    return Message("system", system, len(system)), Message("user", quoted(parts), stable)


def again(contract: Contract, reply: str, reason: str, *, edited: bool = False) -> tuple[Message, Message]:
    """Return the reply as the model's message and, as the user's, the reason why it could not be used."""
    advice = (wording.AGAIN_EDITED if edited else wording.AGAIN).format(file=contract.file)
    parts: list[str | Data] = [wording.REFUSED, Data("reason", one_line(reason, 1000)), advice]
    return Message("assistant", reply if reply.strip() else "(no text)"), Message("user", quoted(parts))


def reflection(request: Request) -> tuple[Message, Message]:
    """Return what is asked of a model that is to write the notes anew from the notes and ideas of a request."""
    contract = request.contract
    system = wording.REFLECTION_SYSTEM.format(
        file=contract.file, metric=contract.metric, goal=_direction(contract), most=MOST_NOTES
    )
    first = _direction_of_search(request)
    parts: list[str | Data] = [*first, *_notes(request, frozenset())]
    crashed = [idea.variant_id for idea in request.ideas if idea.tail]
    listed = Data("ideas", ideas.worded(request.ideas, crashed))
    parts += ["# What was tried", wording.TRIED.format(metric=contract.metric), listed]
    parts += ["# Your task", wording.REFLECTION_TASK]
    stable = len("\n\n".join(first)) if first else 0
    return Message("system", system, len(system)), Message("user", quoted(parts), stable)


def prompt_hash(sent: Sequence[Message]) -> str:
    """Return the SHA-256 of the messages, 64 hexadecimal digits."""
    text = json.dumps([[message.role, message.content] for message in sent])
    return hashlib.sha256(text.encode()).hexdigest()


def program_hash(program: str) -> str:
    """Return the SHA-256 of a version of program.md, 64 hexadecimal digits; it names its file in the run's folder."""
    return hashlib.sha256(program.encode(errors="surrogatepass")).hexdigest()


def addressed(program: str, operator: Operator) -> str:
    """Return program.md without the sections (`## mutation`) that are addressed to another operator.

    A section reaches to the next heading of the first or second level; headings in fenced code do not count.
    """
    others = {other.value for other in Operator} - {operator.value}
    kept: list[str] = []
    skipping = fenced = False
    for line in program.replace("\r\n", "\n").split("\n"):
        if _CODE_FENCE.match(line):
            fenced = not fenced
        heading = None if fenced else _HEADING.fullmatch(line)
        if heading and len(heading[1]) <= 2:
            skipping = len(heading[1]) == 2 and heading[2].strip("`*").lower() in others
        if not skipping:
            kept.append(line)
    return "\n".join(kept).strip()


# ----------------------------------------------------------------------------------------------------------- the parts


def _direction_of_search(request: Request) -> list[str]:
    """Return what all prompts of one operator share for as long as nobody edits program.md."""
    program = addressed(request.program, request.birth.operator)
    parts = [f"<program>\n{program}\n</program>"] if program else []
    if request.facts:
        parts += ["# This run", "\n".join(f"- {fact}" for fact in request.facts)]
    return parts


def _notes(request: Request, omitted: frozenset[str]) -> list[str | Data]:
    if not request.notes.strip() or "notes" in omitted:
        return []
    return [wording.TITLES["notes"], wording.NOTES, Data("notes", request.notes.strip())]


def _parents(request: Request, omitted: frozenset[str], *, edited: bool) -> list[str | Data]:
    contract, parts = request.contract, list[str | Data]()
    for number, parent in enumerate(request.parents):
        variant = parent.variant
        parts += [f"# {_title(request, number)}", _score(parent, contract)]
        if parent.curve and f"curve of {variant.variant_id}" not in omitted:
            parts.append(_curve(parent))
        parts.append(Data(f"hypothesis of {_name(variant)}", one_line(variant.hypothesis, _LONGEST_LINE)))
        if f"source of {variant.variant_id}" not in omitted and not edited:
            parts.append(Data(f"{contract.file} of {_name(variant)}", _shown(variant.source)))
        if request.ancestor is not None and f"changes of {variant.variant_id}" not in omitted:
            parts.append(_difference(request.ancestor, variant, request))
    return parts


def _title(request: Request, number: int) -> str:
    if request.birth.operator is Operator.REPAIR:
        return "The version that crashed"
    return "Parent" if len(request.parents) == 1 else ("First parent", "Second parent")[number]


def _crash(request: Request) -> list[str | Data]:
    if request.crash is None:
        return []
    log = "\n".join(ideas.tail(request.crash.tail, _CRASH_LINES))
    return [
        "# How it crashed",
        Data("reason", one_line(request.crash.reason, _LONGEST_LINE)),
        *([Data("the last lines that it printed", log)] if log else []),
    ]


def _tried(request: Request, omitted: frozenset[str]) -> list[str | Data]:
    told, metric = ideas.choose(request), request.contract.metric
    parts: list[str | Data] = []
    lists = (("nearby", told.nearby, wording.TRIED), ("best", told.best, wording.BEST), ("other", told.others, ""))
    for name, some, remark in lists:
        left = [idea for idea in some if f"idea {idea.variant_id}" not in omitted]
        tails = [idea.variant_id for idea in left if name == "nearby" and f"log of {idea.variant_id}" not in omitted]
        if left:
            said = (remark or wording.TRIED).format(metric=metric)
            parts += [wording.TITLES[name], said, Data("ideas", ideas.worded(left, tails))]
    return parts


def _omissible(request: Request, told: Told, *, edited: bool) -> list[str]:
    """Return what may be left out, first that which is missed least."""
    order = [f"idea {idea.variant_id}" for idea in reversed(told.others)]
    order += [f"log of {idea.variant_id}" for idea in reversed(told.nearby) if idea.tail]
    order += [f"idea {idea.variant_id}" for idea in (*reversed(told.nearby), *reversed(told.best))]
    order += ["notes"] if request.notes.strip() else []
    order += [f"curve of {parent.variant.variant_id}" for parent in reversed(request.parents) if parent.curve]
    if request.ancestor is not None:
        if len(request.parents) == 2 and not edited:
            order.append(f"source of {request.parents[1].variant.variant_id}")
        order.append(f"changes of {request.parents[0].variant.variant_id}")
    return order


def _difference(ancestor: Variant, variant: Variant, request: Request) -> Data:
    old, new = (_shown(side.source).split("\n") for side in (ancestor, variant))
    lines = difflib.unified_diff(old, new, "ancestor", _name(variant), lineterm="")
    since = "its parent" if request.birth.operator is Operator.REPAIR else "the common ancestor"
    return Data(f"what {_name(variant)} changed since {since} {_name(ancestor)}", "\n".join(lines))


def _score(parent: Parent, contract: Contract) -> str:
    if parent.mean is None:
        return f"{_name(parent.variant)}, {contract.metric} not known yet."
    error = "" if parent.error is None else f" ± {parent.error:.2g}"
    trainings = "1 training" if parent.count == 1 else f"{parent.count} trainings"
    return f"{_name(parent.variant)}, {contract.metric} {parent.mean:.7g}{error} from {trainings}."


def _curve(parent: Parent) -> str:
    """Say how the training loss fell, at a few points evenly spread over the progress."""
    points = sorted(parent.curve)
    wanted = [(number + 1) / _CURVE_POINTS for number in range(_CURVE_POINTS)]
    chosen = {min(points, key=lambda point: abs(point[0] - progress)) for progress in wanted}
    said = ", ".join(f"{loss:.4g} at {progress:.0%}" for progress, loss in sorted(chosen))
    return f"Its training loss (nats a token) over the time: {said}."


def _name(variant: Variant) -> str:
    return variant.variant_id[:_SHORT]


def _shown(source: str) -> str:
    """Return a source as edit.py compares it: lines without their ends."""
    return source.replace("\r\n", "\n").removesuffix("\n")


def _direction(contract: Contract) -> str:
    return "lower" if contract.goal == "minimize" else "higher"


def _check(request: Request) -> None:
    operator = request.birth.operator
    wanted = _PARENTS.get(operator)
    fits = len(request.parents) == wanted and (wanted != 2 or request.ancestor is not None)
    if operator is Operator.MUTATION:
        fits = fits and request.ancestor is None
    if not fits or (operator is Operator.REPAIR) != (request.crash is not None):
        raise ValueError(
            f"{operator.value}: no prompt for {len(request.parents)} parents, "
            f"{'an' if request.ancestor else 'no'} ancestor and {'a' if request.crash else 'no'} crash"
        )
