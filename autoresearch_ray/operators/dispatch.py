"""Carry out a birth's operator. The one place that knows which operator is which function.

Owns nothing else: choosing the operator and the parents is the driver's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoresearch_ray.operators import crossover, parameters
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.variant import Birth, Operator, Variant

# The island's tournament draws from the same birth's seed; this keeps the operator's draws apart from its.
_STREAM = 2


def propose(birth: Birth, parents: Sequence[Variant], ancestor: Variant | None) -> Proposal | Failure:
    """Make a variant's source from its parents; the same birth and parents give the same answer.

    Args:
        birth: names the operator and seeds everything random about it.
        parents: one for `parameters`, two for `crossover`, the better first.
        ancestor: `crossover` only: the parents' nearest common ancestor.

    Raises:
        ValueError: the operator cannot work with so many parents.
    """
    rng = np.random.default_rng([birth.seed, _STREAM])
    if birth.operator is Operator.PARAMETERS and len(parents) == 1:
        return parameters.mutate(parents[0], rng)
    if birth.operator is Operator.CROSSOVER and len(parents) == 2 and ancestor is not None:
        return crossover.merge(parents[0], parents[1], ancestor, rng)
    raise ValueError(f"{birth.operator.value} cannot breed from {len(parents)} parents")
