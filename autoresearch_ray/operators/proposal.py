"""What an operator answers: a proposed source, or why there is none. Frozen records, no behaviour.

Does not own the `Variant` that a proposal becomes: the driver knows its birth and parents.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from autoresearch_ray.operators.tunables import Literals
from autoresearch_ray.variant import Operator, Usage


@dataclass(frozen=True, slots=True)
class Proposal:
    """A source worth looking at. Whether it differs from what was tried before is for the driver to say."""

    source: str
    hypothesis: str
    """One line: what changed and why it should help."""
    model: str | None = None
    """The language model that answered; None for the offline operators, as are both hashes."""
    prompt_hash: str | None = None
    program_hash: str | None = None
    usage: Usage = field(default_factory=Usage)
    step_size: float | None = None
    """Standard deviation of the parameter steps (log scale) that the variant hands to its children; None is unset."""
    refusal: str | None = None
    """Why it is not worth a training, found by looking closer than the driver does; the birth ends as `rejected`."""
    operator: Operator | None = None
    """Who made it, where that is not the birth's operator: `parameters` stands in when no language model answers."""
    unasked: str = ""
    """Why no language model was asked, or none answered, although one should have been."""
    notes: str | None = None
    """What a reflection before it wrote down; None: there was none."""
    literals: Literals | None = None
    """Its literals, for those that learn from them; None where nobody has looked."""


@dataclass(frozen=True, slots=True)
class Failure:
    """No usable reply. The birth ends as `operator_failed`, and what it cost is still paid."""

    reason: str
    """One sentence."""
    usage: Usage = field(default_factory=Usage)
    model: str | None = None
    """Who answered, with nothing that can be used: dear, but not down. None: nobody did, and both hashes are None."""
    prompt_hash: str | None = None
    program_hash: str | None = None
    notes: str | None = None
    """What a reflection before it wrote down; None: there was none."""
