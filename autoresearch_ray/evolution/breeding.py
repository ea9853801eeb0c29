"""What a birth is made of: its island, operator and seed, its parents, and what its operator is told. Pure.

Does not own when births happen (pacing.py, driver.py) or how an operator works (operators/).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoresearch_ray.config import Config
from autoresearch_ray.evolution.noise import Noise
from autoresearch_ray.evolution.state import State
from autoresearch_ray.operators.request import Contract, Idea, Parent
from autoresearch_ray.variant import Birth, Operator, Result, Status, Variant, variant_id

TAIL = 2000
"""Characters of a crashed variant's log that later prompts may quote from."""
_MOST_REPAIRS = 11
TOURNAMENT, CHOICE, TRAINING = 0, 1, 2
"""Streams of randomness of one birth; replicate n trains under stream TRAINING + n."""


def entropy(seed: int, number: int, stream: int) -> int:
    """Return 63 random bits that depend on the run's seed, a birth's number and a stream, and on nothing else."""
    digest = hashlib.blake2b(f"{seed}/{number}/{stream}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def conceive(
    config: Config, run: str, number: int, capacities: Sequence[int], state: State, *, language: bool = False
) -> Birth:
    """Decide a birth's island and operator; all that is random derives from the run's seed and the number.

    Args:
        config: shares, where they are fixed, and seed.
        run: the run's name.
        number: the birth's.
        capacities: members each island may hold.
        state: what the operators have brought so far.
        language: a language model may be asked.
    """
    rng = np.random.default_rng(entropy(config.seed, number, CHOICE))
    island = number % len(capacities)
    operator = _operator(config, state, rng, pairs=capacities[island] >= 2, language=language)
    return Birth(number, variant_id(run, number), island, operator, entropy(config.seed, number, TOURNAMENT))


def _operator(config: Config, state: State, rng: np.random.Generator, *, pairs: bool, language: bool) -> Operator:
    """Choose an operator: by the shares that the configuration fixes, else by what each has brought for its cost."""
    crosses, turns = rng.random(), rng.random()
    share, numbers = config.crossover_probability, config.llm.parameters_share
    if pairs and share is not None and crosses < share:
        return Operator.CROSSOVER
    singles = [Operator.PARAMETERS, Operator.MUTATION] if language else [Operator.PARAMETERS]
    if language and numbers is not None:
        singles = [Operator.PARAMETERS if turns < numbers else Operator.MUTATION]
    adaptive = [Operator.CROSSOVER] if pairs and share is None else []
    return state.allocation.choose([*singles, *adaptive], rng, _experiments_a_dollar(config))


def _experiments_a_dollar(config: Config) -> float:
    """Return what a dollar is worth in experiments: as the run may spend both, they are worth the same."""
    if not config.max_cost_usd or config.max_experiments is None:
        return 0.0
    return config.max_experiments / config.max_cost_usd


@dataclass(frozen=True, slots=True)
class Couple:
    """The parents of a birth, the better first, and for two the number of their nearest common ancestor."""

    parents: tuple[Variant, ...]
    ancestor: int | None = None


def couple(birth: Birth, candidates: Sequence[Variant], state: State) -> Couple:
    """Choose the parents among an island's candidates.

    Never a variant with itself, its ancestor or its descendant, nor two that have been parents together before. A
    crossover without such a candidate gets one parent; its operator is then for the caller to change.
    """
    first = candidates[0]
    if birth.operator is Operator.CROSSOVER:
        for second in candidates[1:]:
            pair = (first.birth.number, second.birth.number)
            ancestor = state.ancestry.common_ancestor(*pair)
            if ancestor is not None and ancestor not in pair and not state.crossed(*pair):
                return Couple((first, second), ancestor)
    return Couple((first,))


def parent_of(variant: Variant, state: State, noise: Noise, curve: tuple[tuple[float, float], ...] = ()) -> Parent:
    """Return a parent with what is known of its score, and the curve of one of its trainings."""
    scores = state.scores(variant.birth.number)
    if not scores:
        return Parent(variant, None, None, 0, curve)
    count = len(scores)
    return Parent(variant, state.turn(math.fsum(scores) / count), noise.sigma / math.sqrt(count), count, curve)


def idea_of(variant: Variant, status: Status, reason: str, result: Result | None, state: State, noise: Noise) -> Idea:
    """Return what later prompts may say of a birth that ended: its hypothesis and how it went against its parents.

    Args:
        variant: what was born.
        status: how the birth, or one of its trainings, ended.
        reason: one line, empty when completed.
        result: the training; None takes what the variant's scores say, as when a search is taken up.
        state: the standings.
        noise: of scores.
    """
    scores = state.scores(variant.birth.number) if result is None else ()
    if result is not None and result.val_bpb is not None:
        scores = (state.turn(result.val_bpb),)
    gain = error = None
    best = _compared(variant.birth.number, state)
    if scores and best is not None:
        gain = math.fsum(best) / len(best) - math.fsum(scores) / len(scores)
        error = noise.sigma * math.sqrt(1 / len(scores) + 1 / len(best))
    tail = result.log_tail[-TAIL:] if result is not None and status is Status.CRASHED else ""
    return Idea(
        variant.variant_id,
        variant.hypothesis,
        status,
        gain,
        error,
        reason,
        parents=variant.parents,
        island=variant.birth.island,
        tail=tail,
        model=variant.model,
    )


def _compared(number: int, state: State) -> tuple[float, ...] | None:
    """Return the scores of the better parent; of what was repaired, those of the first parent that has any."""
    best = state.best_parent(number)
    for _ in range(_MOST_REPAIRS):
        parents = state.ancestry.parents(number)
        if best is not None or not parents:
            break
        number = parents[0]
        best = state.best_parent(number)
    return best


def facts_of(config: Config, class_name: str) -> tuple[str, ...]:
    """Return plain sentences about budget, hardware and limits, for an operator that reads."""
    device = "a GPU" if config.device == "cuda" else f"{config.threads} CPU thread{'s' * (config.threads > 1)}"
    return (
        f"One training has {config.train_seconds:g} seconds on {device} ({class_name}).",
        *_details(config),
    )


def _details(config: Config) -> tuple[str, ...]:
    if config.metric.kind == "reported":
        direction = "lower" if config.metric.goal == "minimize" else "higher"
        return (f"The program prints its score as {config.metric.name}; {direction} is better.",)
    return (
        f"Start-up and compilation may take {config.startup_seconds:g} seconds; scoring {config.scoring_seconds:g}.",
        f"Rows hold {config.data.sequence_length} tokens; the tokenizer is {config.data.tokenizer}.",
        "The score is validation bits per byte; lower is better.",
    )


def contract_of(config: Config) -> Contract:
    """Return what the evolved program has to keep."""
    if config.metric.kind == "scored":
        return Contract()
    return Contract(config.evolved_file, config.metric.name, config.metric.goal, scored=False)
