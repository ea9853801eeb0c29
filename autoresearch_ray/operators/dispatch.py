"""Carry out a birth's operator. The one place that knows which operator is which function.

Owns nothing else: choosing the operator and the parents is the driver's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from autoresearch_ray.operators import crossover, mutation, parameters
from autoresearch_ray.operators.mutation import Asks
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.operators.request import Request
from autoresearch_ray.training import preflight
from autoresearch_ray.training.preflight import Inspected
from autoresearch_ray.variant import Operator

Inspect = Callable[[str], Inspected]

# The island's tournament draws from the same birth's seed; this keeps the operator's draws apart from its.
_STREAM = 2


LANGUAGE_CROSSOVERS = 0.5
"""Share of crossovers that a language model reasons about; the others are merges, which cost nothing."""


def propose(request: Request, models: Asks | None = None, inspect: Inspect = preflight.inspect) -> Proposal | Failure:
    """Make a variant's source from its parents; the same request gives the same answer, but for a language model's.

    Args:
        request: the birth, its parents and what an operator that reads is told.
        models: language models; None works offline.
        inspect: looks at a source without running it.

    Raises:
        ValueError: the operator cannot work with so many parents, or needs a language model.
    """
    birth, parents = request.birth, [parent.variant for parent in request.parents]
    rng = np.random.default_rng([birth.seed, _STREAM])
    asks = models is not None and request.language
    if birth.operator is Operator.PARAMETERS and len(parents) == 1:
        return parameters.mutate(parents[0], rng)
    if birth.operator is Operator.CROSSOVER and len(parents) == 2 and request.ancestor is not None:
        if models is not None and asks and rng.random() < LANGUAGE_CROSSOVERS:
            return mutation.propose(request, models, rng, inspect)
        return crossover.merge(parents[0], parents[1], request.ancestor, rng)
    if birth.operator is Operator.MUTATION and len(parents) == 1 and models is not None:
        return mutation.propose(request, models, rng, inspect)
    raise ValueError(f"{birth.operator.value} cannot breed from {len(parents)} parents")
