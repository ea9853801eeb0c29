"""What may stand in place of a token so that it looks natural: what follows the same context elsewhere.

Owns a sorted pool of text and the exact distribution that a stand-in is drawn from. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autoresearch_ray.training.data import Rows

POOL_TOKENS = 1 << 19
"""Tokens of training text that stand-ins are looked for in."""
CONTEXT = 3
"""Tokens of the longest context that is looked for; shorter ones are tried after it."""
LEAST_OCCURRENCES = 8
"""A context that is found less often gives way to a shorter one."""
MOST_OCCURRENCES = 512


@dataclass(frozen=True, slots=True)
class Standin:
    """Tokens to show instead of the true ones, and what the first of them was drawn from."""

    tokens: Rows
    """(n,), as they follow each other in the pool; n >= 1."""
    alternatives: npt.NDArray[np.int64]
    """(k,): the tokens that the first could have been; k >= 2, the true one is none of them."""
    probabilities: npt.NDArray[np.float64]
    """(k,): of the alternatives."""
    chosen: int
    """Index of the first token among the alternatives."""


class Successors:
    """A pool of rows, sorted by context."""

    def __init__(self, rows: Rows) -> None:
        """Sort the pool; `rows` is (rows, T + 1) with T >= `CONTEXT`."""
        self._rows = np.ascontiguousarray(rows)
        self._sorted: list[tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
        for order in range(CONTEXT, 0, -1):
            windows = np.lib.stride_tricks.sliding_window_view(self._rows[:, :-1], order, axis=1)
            keys = _keys(windows).reshape(-1)
            ordering = np.argsort(keys, kind="stable")
            self._sorted.append((order, keys[ordering], ordering))

    def draw(
        self,
        contexts: Rows,
        truths: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
        rng: np.random.Generator,
    ) -> Iterator[Standin | None]:
        """Draw tokens that follow contexts in the pool, the first being another one than the truth.

        Args:
            contexts: (m, CONTEXT).
            truths: (m,).
            lengths: (m,), of how many tokens at most.
            rng: draws.

        Yields:
            A stand-in for each context; None where it has no two alternatives, however short it is cut.
        """
        found = []
        for order, keys, ordering in self._sorted:
            wanted = _keys(contexts[:, CONTEXT - order :])
            found.append((order, ordering, np.searchsorted(keys, wanted), np.searchsorted(keys, wanted + 1)))
        for number, truth in enumerate(truths):
            ranges = ((order, ordering, int(low[number]), int(high[number])) for order, ordering, low, high in found)
            drawn = (self._draw(*each, int(truth), int(lengths[number]), rng) for each in ranges)
            yield next((standin for standin in drawn if standin is not None), None)

    def _draw(
        self,
        order: int,
        ordering: npt.NDArray[np.int64],
        low: int,
        high: int,
        truth: int,
        length: int,
        rng: np.random.Generator,
    ) -> Standin | None:
        if high - low < LEAST_OCCURRENCES:
            return None
        if high - low > MOST_OCCURRENCES:
            low += int(rng.integers(high - low - MOST_OCCURRENCES + 1))
            high = low + MOST_OCCURRENCES
        row, column = np.divmod(ordering[low:high], self._rows.shape[1] - order)
        column += order
        firsts = self._rows[row, column]
        usable = np.flatnonzero(firsts != truth)
        alternatives, counts = np.unique(firsts[usable], return_counts=True)
        if len(alternatives) < 2:
            return None
        drawn = usable[int(rng.integers(len(usable)))]
        tokens = self._rows[row[drawn], column[drawn] : column[drawn] + length]
        chosen = int(np.searchsorted(alternatives, tokens[0]))
        return Standin(tokens, alternatives.astype(np.int64), counts / counts.sum(), chosen)


def pool(rows: Rows) -> Successors:
    """Return the successors in `POOL_TOKENS` tokens of a split, taken evenly over all of it."""
    wanted = min(len(rows), max(1, POOL_TOKENS // rows.shape[1]))
    return Successors(np.asarray(rows[np.linspace(0, len(rows) - 1, wanted).astype(np.int64)]))


def _keys(contexts: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
    """Return one number for each context of up to 3 tokens, (..., order) -> (...)."""
    keys = np.zeros(contexts.shape[:-1], dtype=np.int64)
    for back in range(contexts.shape[-1]):
        keys = keys << 16 | contexts[..., back].astype(np.int64)
    return keys
