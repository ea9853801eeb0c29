"""Puts texts that come from variants between lines that none of them can hold, so that they stay data. Pure.

Does not own what is quoted, or what the prompt says about it (prompt.py, wording.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Data:
    """A text that comes from variants."""

    name: str
    """One line of ours that says what it is."""
    text: str


def quoted(parts: Sequence[str | Data]) -> str:
    """Join the parts by blank lines; data stand between lines with a key that is a hash of all of them.

    A text that is to end its own quotation would have to hold a hash of itself.
    """
    texts = "\0".join(part.text for part in parts if isinstance(part, Data))
    key = hashlib.sha256(texts.encode(errors="surrogatepass")).hexdigest()[:16]
    return "\n\n".join(
        f"<data {key}: {part.name}>\n{part.text}\n</data {key}>" if isinstance(part, Data) else part for part in parts
    )
