"""What is sent to a model that is scored: which rows, in which batches, in which order. Pure, drawn from an rng.

Every scored row is sent once, among others that test the model; nothing in a batch tells which is which. Does not own
what is made of the answers (checks.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from autoresearch_ray.training.data import Rows
from autoresearch_ray.training.successors import CONTEXT, Successors

CHECK_SHARE: Mapping[str, float] = {"cpu": 0.5, "cuda": 1.0}
"""Rows sent as tests, at most, as a share of the scored ones, by device."""
LEAST_CHECK_TOKENS = 1 << 16
"""Where few rows are scored, the tests may take so many tokens all the same, but at most `LEAST_CHECK_ROWS`."""
LEAST_CHECK_ROWS = 192
LEAST_STANDIN_ROWS, LEAST_STANDIN_TOKENS = 288, 288 * 128
"""Rows with stand-ins come on top of these, up to so many rows and tokens, as far as there are rows to show them in."""
REPEATED_ROWS = 32
"""The rows sent first are sent again at the end, and once in other company: at least so many, whole batches."""
MOST_TWINS = 4096
MOST_STANDINS = 32_768
STANDIN_GAP = 16
"""Tokens from one stand-in of a row to the next, on average; at least half of it."""
STANDIN_LENGTHS = (1, 1, 2, 3)
"""Tokens shown in place of as many true ones; drawn from these."""
PROBED_POSITIONS = {"twin": 32, "again": 128}
PROBED_TOKENS = 128
SHOWN_TOKENS = 8
"""Logits that are compared when a row is sent again: at so many positions, of so many tokens drawn at random, and of so
many that each of the two rows shows after the cut."""
CONFIRMING_ROWS = 16
"""A suspicious twin and its original are sent again so often each."""


class Kind(IntEnum):
    """What a row is sent for."""

    SCORE = 0
    """It counts."""
    AGAIN = 1
    """The same row a second time, in other company."""
    REPEAT = 2
    """The same batch a second time, at the end."""
    TWIN = 3
    """A row sent before, with other tokens after a cut."""
    STANDINS = 4
    """A row never sent otherwise, in which isolated tokens are replaced."""
    CONFIRM = 5
    """A twin or its original once more."""
    FILLING = 6
    """A row sent before, so that a batch is full."""


@dataclass(frozen=True, slots=True)
class Standins:
    """The tokens shown in place of true ones in one row: m places with k alternatives in all, flat."""

    position: npt.NDArray[np.int64]
    """(m,): of the shown token among the row's inputs; at least 1."""
    truth: npt.NDArray[np.int64]
    """(m,): the token that was hidden."""
    place: npt.NDArray[np.int64]
    """(k,): which of the m places an alternative belongs to."""
    alternative: npt.NDArray[np.int64]
    """(k,): a token."""
    probability: npt.NDArray[np.float64]
    """(k,): with which it was drawn."""
    chosen: npt.NDArray[np.int64]
    """(m,): the index among the k of the token that is shown."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Which logits of a row are kept, to be compared when it is sent again."""

    positions: npt.NDArray[np.int64]
    """(p,): none is after the twin's cut, which is the last one."""
    tokens: npt.NDArray[np.int64]
    """(k,): first the token that the row shows after the cut, then the one that its twin shows there."""


@dataclass(slots=True)
class Plan:
    """All rows in the order of sending; `batch` of them at a time, each batch full."""

    batch: int
    repeated: int
    """The rows sent first, in whole batches, that are sent again at the end."""
    inputs: Rows
    """(n, T)."""
    targets: Rows
    """(n, T): the true next tokens of scored rows; of the others the next token shown, of twins their original's."""
    kind: npt.NDArray[np.int8]
    """(n,)."""
    row: npt.NDArray[np.int64]
    """(n,): which of the scored rows it is or comes from; -1 for one with stand-ins."""
    first: npt.NDArray[np.int64]
    """(n,): where it, or its original, is sent first; itself for a row sent first."""
    cut: npt.NDArray[np.int64]
    """(n,): the last input that it shares with its original; T - 1 unless it is a twin."""
    standins: dict[int, Standins]
    """By place in the order."""
    probes: dict[int, Probe]
    """By the place of a first sending."""

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def batches(self) -> int:
        """Batches in all."""
        return len(self) // self.batch

    def confirm(self, twin: int, rng: np.random.Generator) -> None:
        """Append batches with a twin and its original `CONFIRMING_ROWS` times each, among other rows sent before."""
        pair = np.repeat([self.first[twin], twin], CONFIRMING_ROWS)
        filling = rng.integers(len(self), size=-len(pair) % self.batch)
        order = rng.permutation(len(pair) + len(filling))
        again = np.concatenate([pair, filling])[order]
        kind = np.where(order < len(pair), Kind.CONFIRM, Kind.FILLING).astype(np.int8)
        self.inputs = np.concatenate([self.inputs, self.inputs[again]])
        self.targets = np.concatenate([self.targets, self.targets[again]])
        self.kind = np.concatenate([self.kind, kind])
        self.row = np.concatenate([self.row, self.row[again]])
        self.first = np.concatenate([self.first, self.first[again]])
        self.cut = np.concatenate([self.cut, self.cut[again]])


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many rows are sent for what, besides the scored ones."""

    repeats: int
    """Rows sent first, in whole batches, that are sent again as they were."""
    again: int
    twins: int
    standins: int


def sizes(scored: int, length: int, batch: int, spare: int, share: float) -> Sizes:
    """Return how many rows are sent for what.

    Args:
        scored: rows that count.
        length: tokens of a row.
        batch: rows of a batch, at most `scored`.
        spare: rows that stand-ins can be shown in.
        share: of the scored rows, an entry of `CHECK_SHARE`.
    """
    room = max(round(share * scored), min(LEAST_CHECK_ROWS, LEAST_CHECK_TOKENS // length), 4)
    batches = max(1, min(-(-REPEATED_ROWS // batch), scored // batch))
    again = max(1, min(batches * batch, REPEATED_ROWS, room // 4))
    usual = max(1, room * 3 // 8)
    least = min(LEAST_STANDIN_ROWS, LEAST_STANDIN_TOKENS // length)
    standins = min(spare, max(usual, least), -(-MOST_STANDINS * STANDIN_GAP // length))
    left = room - batches * batch - again - min(standins, usual)
    twins = max(1, min(left, MOST_TWINS, max(length, room // 4)))
    twins += -(scored + again + twins + standins) % batch  # every batch is full
    return Sizes(batches * batch, again, twins, standins)


def make_plan(
    scored: Rows,
    spare: Rows,
    successors: Successors,
    batch: int,
    share: float,
    vocab_size: int,
    rng: np.random.Generator,
) -> Plan:
    """Draw a plan.

    Args:
        scored: rows (rows, T + 1) that count.
        spare: rows (rows, T + 1) of the same kind of text that are never scored, for stand-ins.
        successors: where stand-ins come from.
        batch: rows of a batch.
        share: of the scored rows that may be sent as tests.
        vocab_size: number of tokens.
        rng: must not be foreseen by who is tested.
    """
    T = scored.shape[1] - 1
    wanted = sizes(len(scored), T, batch, len(spare), share)
    kind, row, first = _order(len(scored), wanted, batch, rng)
    n = len(kind)
    inputs, targets = np.empty((n, T), dtype=np.uint16), np.empty((n, T), dtype=np.uint16)
    new = np.flatnonzero(kind == Kind.SCORE)
    inputs[new], targets[new] = scored[row[new], :-1], scored[row[new], 1:]
    standins: dict[int, Standins] = {}
    places = np.flatnonzero(kind == Kind.STANDINS).tolist()
    for place, which in zip(places, rng.permutation(len(spare)), strict=False):
        shown, standins[place] = _show_standins(spare[which], successors, rng)
        inputs[place], targets[place] = shown[:-1], shown[1:]
    seen = np.flatnonzero(first != np.arange(n))
    inputs[seen], targets[seen] = inputs[first[seen]], targets[first[seen]]
    cut = np.full(n, T - 1, dtype=np.int64)
    twins = np.flatnonzero(kind == Kind.TWIN)
    cut[twins] = _cuts(len(twins), T, rng)
    for place in twins.tolist():
        _replace_after(inputs, place, int(cut[place]), np.flatnonzero(kind[:place] == Kind.SCORE), vocab_size, rng)
    plan = Plan(batch, wanted.repeats, inputs, targets, kind, row, first, cut, standins, {})
    _choose_probes(plan, vocab_size, rng)
    return plan


def _order(
    scored: int, wanted: Sizes, batch: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return kind, scored row (-1 for stand-ins) and place of first sending, for all rows in their order.

    Rows that are new come in random order; the places of those that were sent before are random after the first
    batches, and each stands for a row of an earlier batch, so that a scored row is always sent for its score first.
    """
    new = rng.permutation(np.concatenate([np.arange(scored), np.full(wanted.standins, -1)]))
    seen = wanted.again + wanted.twins
    n = len(new) + seen
    kind, row = np.full(n, Kind.SCORE, dtype=np.int8), np.empty(n, dtype=np.int64)
    first = np.arange(n)
    later = np.sort(rng.choice(np.arange(wanted.repeats, n), size=seen, replace=False))
    is_new = np.ones(n, dtype=bool)
    is_new[later] = False
    row[is_new] = new
    kind[is_new & (row < 0)] = Kind.STANDINS
    again = set(rng.choice(later, size=wanted.again, replace=False).tolist())
    heads = rng.permutation(wanted.repeats)[: wanted.again].tolist()
    free = [place for place in range(wanted.repeats) if row[place] >= 0 and place not in heads]
    reached = wanted.repeats
    for place in later.tolist():
        earlier = max(wanted.repeats, place // batch * batch)
        free += [other for other in range(reached, earlier) if kind[other] == Kind.SCORE and is_new[other]]
        reached = earlier
        if place in again:
            kind[place], first[place] = Kind.AGAIN, heads.pop()
        elif free:
            pick = int(rng.integers(len(free)))
            free[pick], free[-1] = free[-1], free[pick]
            kind[place], first[place] = Kind.TWIN, free.pop()
        else:
            kind[place], first[place] = Kind.FILLING, rng.integers(wanted.repeats)
        row[place] = row[first[place]]
    tail = np.arange(wanted.repeats)
    kind = np.concatenate([kind, np.full(len(tail), Kind.REPEAT, dtype=np.int8)])
    return kind, np.concatenate([row, row[tail]]), np.concatenate([first, tail])


def _show_standins(row: Rows, successors: Successors, rng: np.random.Generator) -> tuple[Rows, Standins]:
    """Return a row (T + 1) with stand-ins in place of isolated tokens, and what they are."""
    shown, T = np.array(row), len(row) - 1
    gaps = STANDIN_GAP // 2 + rng.geometric(2.0 / STANDIN_GAP, size=2 * T // STANDIN_GAP + 1)
    at = CONTEXT + int(rng.integers(STANDIN_GAP)) + np.cumsum(gaps) - gaps[0]  # never in another one's context
    at = at[at < T]
    lengths = np.minimum(rng.choice(STANDIN_LENGTHS, size=len(at)), T - at)
    contexts = shown[at[:, None] + np.arange(-CONTEXT, 0)]
    position, found = [], []
    for where, standin in zip(at.tolist(), successors.draw(contexts, row[at], lengths, rng), strict=True):
        if standin is not None:
            shown[where : where + len(standin.tokens)] = standin.tokens
            position.append(where)
            found.append(standin)
    counts = np.array([len(standin.alternatives) for standin in found], dtype=np.int64)
    starts = np.cumsum(counts) - counts
    return shown, Standins(
        position=np.array(position, dtype=np.int64),
        truth=row[np.array(position, dtype=np.int64)].astype(np.int64),
        place=np.repeat(np.arange(len(found)), counts),
        alternative=np.concatenate([np.empty(0, np.int64), *(standin.alternatives for standin in found)]),
        probability=np.concatenate([np.empty(0), *(standin.probabilities for standin in found)]),
        chosen=starts + np.array([standin.chosen for standin in found], dtype=np.int64),
    )


def _cuts(count: int, T: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return cuts in [0, T - 2] in random order: each is there as often as any other, give or take one."""
    rounds = [rng.permutation(max(1, T - 1)) for _ in range(-(-count // max(1, T - 1)))]
    return np.concatenate([np.empty(0, dtype=np.int64), *rounds])[:count]


def _replace_after(
    inputs: Rows, place: int, cut: int, donors: npt.NDArray[np.int64], vocab_size: int, rng: np.random.Generator
) -> None:
    """Replace what comes after the cut by what another row shows there, which begins with another token."""
    true = inputs[place, cut + 1]
    for donor in rng.choice(donors, size=min(8, len(donors)), replace=False):
        if inputs[donor, cut + 1] != true:
            inputs[place, cut + 1 :] = inputs[donor, cut + 1 :]
            return
    inputs[place, cut + 1] = (int(true) + 1 + int(rng.integers(vocab_size - 1))) % vocab_size


def _choose_probes(plan: Plan, vocab_size: int, rng: np.random.Generator) -> None:
    """Choose which logits of rows that are sent again are kept; half of a twin's stand right before the cut.

    No row has both a twin and a place of kind `AGAIN`.
    """
    T = plan.inputs.shape[1]
    twins = {int(plan.first[place]): place for place in np.flatnonzero(plan.kind == Kind.TWIN).tolist()}
    again = set(plan.first[plan.kind == Kind.AGAIN].tolist())
    for place in sorted({*twins, *again}):
        twin = twins.get(place, place)
        cut = int(plan.cut[twin])
        if place in again:
            positions = rng.permutation(T)[: PROBED_POSITIONS["again"]]
        else:
            half = PROBED_POSITIONS["twin"] // 2
            positions = np.concatenate([rng.integers(cut + 1, size=half), np.maximum(np.arange(-half, 0) + cut + 1, 0)])
        after = np.minimum(np.arange(cut + 1, cut + 1 + SHOWN_TOKENS), T - 1)
        pair = np.stack([plan.inputs[place, after], plan.inputs[twin, after]], axis=1).reshape(-1)
        tokens = np.concatenate([pair, rng.integers(vocab_size, size=PROBED_TOKENS)]).astype(np.int64)
        plan.probes[place] = Probe(positions, tokens)
