"""What is worth training again: replicates of those that may be the best, challenges for the title, the end phase.

Pure decisions on standings and what is left to spend. Does not own the test (challenge.py) or the loop (driver.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from autoresearch_ray.config import Config
from autoresearch_ray.evolution import sequential
from autoresearch_ray.evolution.challenge import ERROR, FIRST_LOOK
from autoresearch_ray.evolution.noise import Posterior
from autoresearch_ray.evolution.state import Standing, State
from autoresearch_ray.variant import Purpose

EAGER_PAIRS = 3
"""A challenge that is expected to be decided with so few pairs is begun in the middle of a run."""
LEAST_EXPERIMENTS = 16
"""A run of fewer experiments keeps no reserve: it could hardly pay for a verdict."""

_RESERVED = 0.1
_LEAST_RESERVED = 6
_SWING = 1.2
_SETTLED = 8  # births without a better best: a challenger that is overtaken at once is not worth confirming
_STALLED = 40


@dataclass(frozen=True, slots=True)
class Left:
    """What a run may still spend; None is no limit."""

    experiments: int | None
    """Neither spent nor reserved."""
    seconds: float | None
    """Until nothing new is begun any more."""
    experiment_seconds: float
    """Wall-clock time of one, as it was so far."""
    closing: bool = False
    """Nothing more shall be born, whatever is left."""

    @property
    def pays_for_a_challenge(self) -> bool:
        """Whether the experiments are enough for a first look."""
        return self.experiments is None or self.experiments >= 2 * FIRST_LOOK


def reserve(config: Config) -> int:
    """Return the experiments that the end phase has for itself."""
    if config.max_experiments is None or config.max_experiments < LEAST_EXPERIMENTS or not config.max_replicates:
        return 0
    share = round(_RESERVED * config.max_experiments)
    return min(max(share, _LEAST_RESERVED), 2 * max(config.max_replicates, FIRST_LOOK))


def kept(config: Config, state: State, left: Left, *, breeding: bool) -> int:
    """Return how many of the experiments left no birth may take.

    All of the reserve while a birth that has begun may still become the best, or the best is worth a challenge. Else it
    falls to births as well, but for what confirms one of those. The last few find nothing that could be confirmed: they
    go to births only where `last_replicates` has nobody for them.

    Args:
        config: limits.
        state: the standings.
        left: what may still be spent, the challenge under way not counted.
        breeding: births are in the making.
    """
    if left.experiments is None or left.experiments > reserve(config) or breeding:
        return reserve(config)
    if not left.pays_for_a_challenge:
        return 0
    if worth_a_challenge(config, state):
        return reserve(config)
    return 2 * FIRST_LOOK if left.experiments > 2 * FIRST_LOOK else 0


def ending(config: Config, left: Left, slots: int) -> bool:
    """Return whether only so much is left that the end phase should have it."""
    if not config.max_replicates:
        return False
    if left.closing:
        return True
    if left.experiments is not None and left.experiments <= reserve(config):
        return True
    rounds = math.ceil(2 * FIRST_LOOK / slots) + 2  # what trains is finished first, and what was handed out
    return left.seconds is not None and left.seconds <= rounds * left.experiment_seconds


def worth_a_challenge(config: Config, state: State) -> bool:
    """Return whether the best may challenge the holder of the title, and would have a chance."""
    return bool(config.max_replicates) and _pairs(config, state) <= max(config.max_replicates, FIRST_LOOK)


def challenge(
    config: Config, state: State, left: Left, slots: int, ended: int, *, breeding: bool = False
) -> int | None:
    """Return how many pairs a challenge by the best should have at most; None: not now.

    At the end it waits for the births that train, if there is time: one of them may be better still.

    Args:
        config: shares and limits.
        state: the standings.
        left: what may still be spent.
        slots: experiments that run at a time.
        ended: experiments that have ended.
        breeding: births are in the making, and there is time to wait for them.
    """
    if state.title.challenge is not None or not config.max_replicates:
        return None
    pairs = _pairs(config, state)
    limit = max(config.max_replicates, FIRST_LOOK)
    if left.experiments is not None:
        limit = min(limit, left.experiments // 2)
    if limit < FIRST_LOOK or pairs > max(config.max_replicates, FIRST_LOOK):
        return None
    if ending(config, left, slots):
        return None if breeding else limit
    clear = pairs <= EAGER_PAIRS and state.since_best >= _SETTLED + slots
    clear = clear or state.since_best >= _STALLED + slots
    affordable = again(state) + 2 * max(math.ceil(pairs), FIRST_LOOK) <= _SWING * config.replicate_share * ended
    return limit if clear and affordable else None


def first_pairs(config: Config, state: State, limit: int) -> int:
    """Return the pairs to begin a challenge with: as many as will probably decide it."""
    return min(max(math.ceil(_pairs(config, state)), FIRST_LOOK), limit)


def again(state: State) -> int:
    """Return the experiments so far that measured a known variant again."""
    return state.purposes[Purpose.REPLICATE] + state.purposes[Purpose.CHALLENGE]


def replicates(config: Config, state: State, room: int, flying: Mapping[int, int], ended: int) -> list[Standing]:
    """Return whom to train again in the room there is, at most.

    By the knowledge gradient (Frazier, Powell, Dayanik 2008): by how much one more score is expected to improve the
    choice of the best. Where that is more than births have brought lately, the share of replicates rises, else it
    falls; `replicate_share` is met where both are worth the same, and a fifth above it is the most.

    Args:
        config: share and limit.
        state: the standings.
        room: experiments that may begin now.
        flying: trainings ordered and not ended, by variant.
        ended: experiments that have ended.
    """
    allowed = _SWING * config.replicate_share * ended - again(state) - sum(flying.values())
    if allowed < 1 or room < 1 or not config.max_replicates or state.best is None:
        return []
    values = _values(state)
    eligible = _eligible(config, state, flying, values)
    if not eligible:
        return []
    greatest, progress = values[eligible[0].number], state.progress
    ratio = _SWING if progress <= 0 else min(_SWING, greatest / progress)
    count = math.floor(ratio * config.replicate_share * ended - again(state) - sum(flying.values()))
    return [standing for standing in eligible[: max(0, min(count, room))] if values[standing.number] > 0]


def last_replicates(config: Config, state: State, left: Left, flying: Mapping[int, int]) -> list[Standing]:
    """Return whom the last few experiments train again, once all births have ended and no challenge is worth it.

    What they could find anew, nothing would be left to confirm: they make surer who is best among those that are known.
    """
    few = left.experiments is not None and left.experiments <= min(2 * FIRST_LOOK, reserve(config))
    if not few or state.title.challenge is not None:
        return []
    return _eligible(config, state, flying, _values(state))[: left.experiments]


def _values(state: State) -> dict[int, float]:
    noise = state.noise.estimate()
    beliefs = {standing.number: noise.posterior(standing.scores, standing.prior) for standing in state.contenders}
    return knowledge_gradients(beliefs, noise.sigma)


def _eligible(config: Config, state: State, flying: Mapping[int, int], values: Mapping[int, float]) -> list[Standing]:
    """Return who may be trained again, who is most worth it first."""
    return sorted(
        (
            standing
            for standing in state.contenders
            if len(standing.scores) <= config.max_replicates and not flying.get(standing.number, 0)
        ),
        key=lambda standing: (-values[standing.number], standing.number),
    )


def knowledge_gradients(beliefs: Mapping[int, Posterior], sigma: float) -> dict[int, float]:
    """Return by how much one more score of each is expected to lower the true score of who is then taken for the best.

    Args:
        beliefs: what is believed of each variant.
        sigma: standard deviation of one score.
    """
    ordered = sorted((posterior.mean, number) for number, posterior in beliefs.items())
    if len(ordered) < 2:
        return dict.fromkeys(beliefs, 0.0)
    (best, leader), (second, _) = ordered[0], ordered[1]
    root = math.sqrt(2 * math.pi)
    values = {}
    for number, posterior in beliefs.items():
        gap = second - best if number == leader else posterior.mean - best
        change = posterior.sd**2 / math.hypot(posterior.sd, sigma)
        z = -gap / change
        values[number] = change * (z * _cdf(z) + math.exp(-0.5 * z * z) / root)
    return values


def _cdf(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))


def _pairs(config: Config, state: State) -> float:
    """Return the pairs that a challenge by the best would need; infinite where it makes no sense."""
    best, holder = state.best, state.title.holder
    if best is None or best.number == holder or not state.scores(holder) or state.title.met(best.number):
        return math.inf
    gain = state.belief(holder).mean - state.posterior(best).mean
    constant = sequential.threshold(FIRST_LOOK, max(config.max_replicates, FIRST_LOOK), ERROR)
    return sequential.pairs_needed(gain, state.noise.estimate().sigma, constant)
