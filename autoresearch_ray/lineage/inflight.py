"""What has begun and has no row yet: births and operators' replies, kept in the journal only.

Owns their journal entries. Does not own the journal (store.py) or what becomes of them after a kill (evolution/).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoresearch_ray.lineage import codec, schema
from autoresearch_ray.variant import Birth, Variant

_BIRTH = "birth"
_PROPOSAL = "proposal"


class InFlight:
    """The open births and proposals of a run; each method that adds one returns its journal entry."""

    def __init__(self) -> None:
        # Each with its entry: a new journal takes over all that is open, again and again at a thousand slots.
        self._births: dict[str, tuple[Birth, str]] = {}
        self._proposals: dict[str, tuple[Variant, str]] = {}

    @property
    def births(self) -> tuple[Birth, ...]:
        """Births without a row, by number."""
        return tuple(sorted((birth for birth, _ in self._births.values()), key=lambda birth: birth.number))

    @property
    def proposals(self) -> tuple[Variant, ...]:
        """Proposed variants without a row, by number."""
        proposed = (variant for variant, _ in self._proposals.values())
        return tuple(sorted(proposed, key=lambda variant: variant.birth.number))

    def reserve(self, birth: Birth) -> str:
        """Open a birth."""
        entry = codec.encode({_BIRTH: schema.birth_row(birth)})
        self._births[birth.variant_id] = birth, entry
        return entry

    def propose(self, variant: Variant) -> str:
        """Open a proposal."""
        entry = codec.encode({_PROPOSAL: codec.known(schema.proposal_row(variant))})
        self._proposals[variant.variant_id] = variant, entry
        return entry

    def settle(self, variant_id: str) -> None:
        """Forget a birth: it has its row."""
        self._births.pop(variant_id, None)
        self._proposals.pop(variant_id, None)

    def recover(self, entry: Mapping[str, Any]) -> bool:
        """Take up a journal entry that `reserve` or `propose` made; False if it is of another kind."""
        if _BIRTH in entry:
            self.reserve(schema.birth_of(entry[_BIRTH]))
        elif _PROPOSAL in entry:
            self.propose(schema.variant_of(codec.decode("variants", entry[_PROPOSAL])))
        else:
            return False
        return True

    def entries(self) -> list[str]:
        """Return the journal entries of all that is open, for a new journal."""
        return [entry for _, entry in (*self._births.values(), *self._proposals.values())]
