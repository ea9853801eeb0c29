"""Carry out a birth's operator. The one place that knows which operator is which function.

Owns nothing else: choosing the operator and the parents is the driver's.
"""

from __future__ import annotations

import numpy as np

from autoresearch_ray.operators import crossover, parameters
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.operators.request import Request
from autoresearch_ray.variant import Operator

# The island's tournament draws from the same birth's seed; this keeps the operator's draws apart from its.
_STREAM = 2


def propose(request: Request) -> Proposal | Failure:
    """Make a variant's source from its parents, offline; the same request gives the same answer.

    Raises:
        ValueError: the operator cannot work with so many parents, or is no offline operator.
    """
    birth, parents = request.birth, [parent.variant for parent in request.parents]
    rng = np.random.default_rng([birth.seed, _STREAM])
    if birth.operator is Operator.PARAMETERS and len(parents) == 1:
        return parameters.mutate(parents[0], rng)
    if birth.operator is Operator.CROSSOVER and len(parents) == 2 and request.ancestor is not None:
        return crossover.merge(parents[0], parents[1], request.ancestor, rng)
    raise ValueError(f"{birth.operator.value} cannot breed from {len(parents)} parents")
