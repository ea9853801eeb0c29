"""The operators that read, `mutation`, `crossover` and `repair`: ask, edit, look, and ask once more.

Owns the conversation. Does not own its wording (prompt.py), the edit (edit.py) or who answers (ensemble.py, agent.py,
inbox.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from typing import Protocol

import numpy as np

from autoresearch_ray.operators import edit, novelty, prompt
from autoresearch_ray.operators.aids import Aids
from autoresearch_ray.operators.edit import Edited, Refused
from autoresearch_ray.operators.ensemble import CallFailed, total
from autoresearch_ray.operators.llm import Reply
from autoresearch_ray.operators.novelty import Change
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.operators.request import Message, Request
from autoresearch_ray.operators.transcripts import Exchange
from autoresearch_ray.training.preflight import Inspected
from autoresearch_ray.variant import Usage


class Asks(Protocol):
    """Whoever answers: language models, an agent, a person, or a double in tests."""

    @property
    def max_prompt_tokens(self) -> int:
        """Tokens that a prompt may have."""

    @property
    def edits(self) -> bool:
        """Whether the answer is an edited file in a folder, not a text."""

    def count(self, messages: Sequence[Message]) -> int:
        """Count the tokens of messages."""

    def ask(
        self, messages: Sequence[Message], rng: np.random.Generator, model: str | None = None
    ) -> Reply | CallFailed:
        """Answer a conversation; `model` names who is to answer."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a reply makes of the first parent, and what is wrong with it."""

    edited: Edited | Refused
    complaint: str = ""
    """A sentence for whoever is asked again; empty when nothing is wrong."""
    refusal: str | None = None
    """Why the edited source is not worth a training; None where it is, or where the driver will say it itself."""
    change: Change | None = None


def propose(request: Request, asks: Asks, rng: np.random.Generator, aids: Aids) -> Proposal | Failure | CallFailed:
    """Let whoever answers make a variant.

    A reply that cannot be used is answered once, to the same model, with the exact reason. A second one that can be
    applied is proposed even if the look at its source finds fault: the birth then ends as `rejected`, with its source.
    What only resembles a failed idea from elsewhere is accepted when it is insisted on.

    Args:
        request: what is asked.
        asks: who is asked.
        rng: everything random about it.
        aids: checks, memory, and where the conversation is kept.

    Returns:
        The proposal, why there is none, or `CallFailed` when nobody can be asked now: others may then stand in.
    """
    asked = prompt.compose(request, asks.max_prompt_tokens, asks.count, edited=asks.edits)
    if asked.tokens > asks.max_prompt_tokens:
        return Failure(
            f"The prompt has {asked.tokens} tokens, and llm.max_prompt_tokens allows {asks.max_prompt_tokens}."
        )
    sent = asked.messages
    answer = _asked(request, sent, asks, rng, aids)
    if isinstance(answer, CallFailed):
        return answer if answer.down else Failure(answer.reason, answer.usage)
    judged, usage = _judge(request, answer, aids), answer.usage
    if judged.complaint:
        sent = (*sent, *prompt.again(request.contract, answer.text, judged.complaint, edited=asks.edits))
        answer = _asked(request, sent, asks, rng, aids, answer.model)
        usage = total(usage, answer.usage)
        if isinstance(answer, CallFailed):
            return Failure(f"{judged.complaint} Asked again: {answer.reason}", usage)
        judged = _judge(request, answer, aids)
    return _answered(request, sent, answer, judged, usage, aids)


def _answered(
    request: Request, sent: Sequence[Message], answer: Reply, judged: Judged, usage: Usage, aids: Aids
) -> Proposal | Failure:
    edited = judged.edited
    if isinstance(edited, Refused):
        reason = f"{answer.model} gave no usable reply, asked twice. {edited.reason}"
        return Failure(reason, usage, answer.model, *_hashes(request, sent))
    if judged.change is not None:
        aids.remembered.note(judged.change)
    prompt_hash, program_hash = _hashes(request, sent)
    return Proposal(
        edited.source,
        edited.hypothesis,
        model=answer.model,
        prompt_hash=prompt_hash,
        program_hash=program_hash,
        usage=usage,
        refusal=judged.refusal,
    )


def _hashes(request: Request, sent: Sequence[Message]) -> tuple[str, str]:
    return prompt.prompt_hash(sent), prompt.program_hash(request.program)


def _asked(
    request: Request,
    sent: Sequence[Message],
    asks: Asks,
    rng: np.random.Generator,
    aids: Aids,
    model: str | None = None,
) -> Reply | CallFailed:
    """Ask, and keep what was said."""
    return keeping(request, request.birth.operator.value, sent, aids, lambda: asks.ask(sent, rng, model))


def keeping(
    request: Request, purpose: str, sent: Sequence[Message], aids: Aids, ask: Callable[[], Reply | CallFailed]
) -> Reply | CallFailed:
    """Ask, and keep the question with its answer."""
    asked_at, began = datetime.now(timezone.utc), time.monotonic()
    answer = ask()
    exchange = Exchange(
        variant_id=request.birth.variant_id,
        number=request.birth.number,
        purpose=purpose,
        asked_at=asked_at,
        seconds=time.monotonic() - began,
        model=answer.model if isinstance(answer, Reply) else "nobody",
        messages=tuple(sent),
        prompt_hash=prompt.prompt_hash(sent),
        reply=answer.text if isinstance(answer, Reply) else None,
        failure=answer.reason if isinstance(answer, CallFailed) else "",
        attempts=answer.attempts,
        usage=answer.usage,
    )
    aids.keep(exchange)
    return answer


def _judge(request: Request, answer: Reply, aids: Aids) -> Judged:
    """Say what a reply makes of the first parent, and what is wrong with it, cheap checks first."""
    if answer.complaint or answer.cut:
        cut = "The reply was cut off at its longest length (llm.models[].max_output_tokens)."
        refused = Refused(answer.complaint or cut)
        return Judged(refused, refused.reason)
    first = request.parents[0].variant
    if answer.source is None:
        edited = edit.apply(first.source, answer.text)
    else:
        edited = edit.taken(first.source, answer.source, answer.text)
    if isinstance(edited, Refused):
        return Judged(edited, edited.reason)
    inspected = aids.inspect(edited.source)
    if inspected.refusal:
        return Judged(edited, f"With your change, {inspected.refusal}.")
    for parent in request.parents:
        if _identity(aids.inspect, parent.variant.source) == inspected.identity:
            return Judged(edited, "Nothing changed but comments or layout: it is the same program as a parent.")
    change = novelty.change_of(request.birth.variant_id, edited.source, first, inspected.identity)
    objection = aids.remembered.objection(change)
    if objection is not None and objection.certain:
        return Judged(edited, f"It would be for nothing: {objection.reason}.", objection.reason)
    if refusal := aids.build(edited.source):
        return Judged(edited, f"With your change, {refusal}.", refusal, change)
    if objection is not None:
        hint = "Say in the hypothesis why it should work now, or try something else."
        return Judged(edited, f"Take care: {objection.reason}. {hint}", None, change)
    return Judged(edited, change=change)


@lru_cache(maxsize=64)
def _identity(inspect: Callable[[str], Inspected], source: str) -> str | None:
    """Return what a parent shares with those that are the same program; the same parents breed again and again."""
    return inspect(source).identity
