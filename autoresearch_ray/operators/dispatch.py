"""Carry out a birth's operator. The one place that knows which operator is which function.

Owns nothing else: choosing the operator and the parents is the driver's.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import replace

import numpy as np

from autoresearch_ray.operators import crossover, mutation, parameters, tunables
from autoresearch_ray.operators.aids import Aids
from autoresearch_ray.operators.ensemble import CallFailed, total
from autoresearch_ray.operators.mutation import Asks
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.operators.reflection import reflect
from autoresearch_ray.operators.request import Request
from autoresearch_ray.operators.workplace import Workplace
from autoresearch_ray.variant import Operator

# The island's tournament draws from the same birth's seed; this keeps the operator's draws apart from its.
_STREAM = 2
_DRAWS = 4
# So often an operator that costs nothing tries again where the model of its proposal cannot be built.

Whoever = Asks | Workplace | None
"""Language models, an agent or a person; None works offline."""


def propose(request: Request, asks: Whoever = None, aids: Aids | None = None) -> Proposal | Failure:
    """Make a variant's source from its parents; the same request gives the same answer, but for a language model's.

    Where no language model can be asked, an operator that costs nothing stands in, and the proposal says so.

    Args:
        request: the birth, its parents and what an operator that reads is told.
        asks: who is asked.
        aids: checks, memory, and where conversations are kept.

    Raises:
        ValueError: the operator cannot work with so many parents, or needs a language model.
    """
    answer = _carried_out(request, asks, aids or Aids())
    if isinstance(answer, Failure):
        return answer
    with suppress(SyntaxError):  # the look at the source will say so
        return replace(answer, literals=tunables.read(answer.source))
    return answer


def _carried_out(request: Request, asks: Whoever, aids: Aids) -> Proposal | Failure:
    rng = np.random.default_rng([request.birth.seed, _STREAM])
    aids.remembered.hear(request.ideas)
    if asks is None or not _asks(request, aids, rng):
        return _offline(request, request.birth.operator, rng, aids)
    with ExitStack() as stack:
        asked = stack.enter_context(asks.open(request)) if isinstance(asks, Workplace) else asks
        reflected = reflect(request, asked, rng, aids) if request.reflect and not asked.edits else None
        if reflected is not None and reflected.notes is not None:
            request = replace(request, notes=reflected.notes)
        answer = mutation.propose(request, asked, rng, aids)
    if isinstance(answer, CallFailed):
        answer = _stand_in(request, answer, rng, aids)
    if reflected is None:
        return answer
    return replace(answer, usage=total(answer.usage, reflected.usage), notes=reflected.notes)


def _asks(request: Request, aids: Aids, rng: np.random.Generator) -> bool:
    """Return whether this birth asks: mutations and repairs do, crossovers that cannot be merged, and some others."""
    operator = request.birth.operator
    if not request.language or operator not in (Operator.MUTATION, Operator.CROSSOVER, Operator.REPAIR):
        return False
    if operator is not Operator.CROSSOVER or request.ancestor is None:
        return True
    first, second = (parent.variant.source for parent in request.parents)
    return rng.random() < aids.reasoned_crossovers or not crossover.compatible(first, second, request.ancestor.source)


def _offline(request: Request, operator: Operator, rng: np.random.Generator, aids: Aids) -> Proposal | Failure:
    """Carry out an operator that costs no tokens; where all is built, draw again for what cannot be."""
    parents = [parent.variant for parent in request.parents]
    answer: Proposal | Failure = Failure("")
    for _ in range(_DRAWS if aids.builds_everything else 1):
        if operator is Operator.PARAMETERS and len(parents) == 1:
            answer = parameters.propose(request, rng)
        elif operator is Operator.CROSSOVER and len(parents) == 2 and request.ancestor is not None:
            answer = crossover.merge(parents[0], parents[1], request.ancestor, rng)
        else:
            raise ValueError(f"{operator.value} cannot breed from {len(parents)} parents")
        if isinstance(answer, Failure) or not aids.builds_everything:
            return answer
        answer = replace(answer, refusal=aids.build(answer.source))
        if answer.refusal is None:
            return answer
    return answer


def _stand_in(request: Request, failed: CallFailed, rng: np.random.Generator, aids: Aids) -> Proposal | Failure:
    """Do without the language models; a repair cannot."""
    if request.birth.operator is Operator.REPAIR:
        return Failure(failed.reason, failed.usage)
    operator = Operator.PARAMETERS if request.birth.operator is Operator.MUTATION else Operator.CROSSOVER
    answer = _offline(request, operator, rng, aids)
    if isinstance(answer, Failure):
        return Failure(f"{failed.reason} {answer.reason}", failed.usage)
    return replace(answer, usage=failed.usage, operator=operator, unasked=failed.reason)
