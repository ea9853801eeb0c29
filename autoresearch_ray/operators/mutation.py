"""The operators `mutation` and `crossover` of a language model: ask, edit, look, and ask once more.

Owns the conversation. Does not own its wording (prompt.py), the edit (edit.py) or the call (llm.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np

from autoresearch_ray.operators import edit, prompt
from autoresearch_ray.operators.edit import Edited, Refused
from autoresearch_ray.operators.ensemble import CallFailed, total
from autoresearch_ray.operators.llm import Reply
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.operators.request import Message, Request
from autoresearch_ray.training import preflight
from autoresearch_ray.training.preflight import Inspected


class Asks(Protocol):
    """Whoever answers: `llm.LanguageModels`, or a double in tests."""

    @property
    def max_prompt_tokens(self) -> int:
        """Tokens that a prompt may have."""

    def count(self, messages: Sequence[Message]) -> int:
        """Count the tokens of messages."""

    def ask(
        self, messages: Sequence[Message], rng: np.random.Generator, model: str | None = None
    ) -> Reply | CallFailed:
        """Answer a conversation; `model` names who is to answer."""


def propose(
    request: Request,
    models: Asks,
    rng: np.random.Generator,
    inspect: Callable[[str], Inspected] = preflight.inspect,
) -> Proposal | Failure:
    """Let a language model make a variant.

    A reply that cannot be used is answered once, to the same model, with the exact reason. A second one that can be
    applied is proposed even if the look at its source finds fault: the birth then ends as `rejected`, with its source.

    Args:
        request: what is asked.
        models: who is asked.
        rng: everything random about it.
        inspect: looks at a source without running it.
    """
    asked = prompt.compose(request, models.max_prompt_tokens, models.count)
    if asked.tokens > models.max_prompt_tokens:
        return Failure(
            f"The prompt has {asked.tokens} tokens, and llm.max_prompt_tokens allows {models.max_prompt_tokens}."
        )
    sent = asked.messages
    answer = models.ask(sent, rng)
    if isinstance(answer, CallFailed):
        return Failure(answer.reason, answer.usage)
    edited, complaint = _judged(request, answer, inspect)
    usage = answer.usage
    if complaint:
        sent = (*sent, *prompt.again(request.contract, answer.text, complaint))
        answer = models.ask(sent, rng, answer.model)
        usage = total(usage, answer.usage)
        if isinstance(answer, CallFailed):
            return Failure(f"{complaint} Asked again: {answer.reason}", usage)
        edited, _ = _judged(request, answer, inspect)
    if isinstance(edited, Refused):
        return Failure(f"{answer.model} gave no usable reply, asked twice. {edited.reason}", usage)
    return Proposal(
        edited.source,
        edited.hypothesis,
        model=answer.model,
        prompt_hash=prompt.prompt_hash(sent),
        program_hash=prompt.program_hash(request.program),
        usage=usage,
    )


def _judged(request: Request, answer: Reply, inspect: Callable[[str], Inspected]) -> tuple[Edited | Refused, str]:
    """Return what a reply makes of the first parent, and what is wrong with it; empty when nothing is."""
    if answer.cut:
        refused = Refused("The reply was cut off at its longest length (llm.models[].max_output_tokens).")
        return refused, refused.reason
    edited = edit.apply(request.parents[0].variant.source, answer.text)
    if isinstance(edited, Refused):
        return edited, edited.reason
    inspected = inspect(edited.source)
    if inspected.refusal:
        return edited, f"With your change, {inspected.refusal}."
    for parent in request.parents:
        if _identity(inspect, parent.variant.source) == inspected.identity:
            return edited, "Nothing changed but comments or layout: it is the same program as a parent."
    return edited, ""


@lru_cache(maxsize=64)
def _identity(inspect: Callable[[str], Inspected], source: str) -> str | None:
    """Return what a parent shares with those that are the same program; the same parents breed again and again."""
    return inspect(source).identity
