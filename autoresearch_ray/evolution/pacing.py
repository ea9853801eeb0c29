"""How many births: room for the next, population sizes and migration.

Pure decisions on counts. Does not own the loop (evolution/driver.py) or what may be spent (ledger.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from autoresearch_ray.config import Config
from autoresearch_ray.errors import UsageError

NEAR_GREEDY = 3
"""The smallest automatic population: with the default tournament of three the best member is always drawn, so parents
are chosen as a greedy climber chooses, while two runners-up stay for crossovers."""


@dataclass(frozen=True, slots=True)
class SteadyState:
    """Keeps `width` births in flight: one ends, the next begins."""

    width: int
    """Slots plus proposals kept ready for them."""

    def room(self, in_flight: int, started: int) -> int:
        """Return how many births may begin now; `started` (births begun so far) does not matter here."""
        return max(0, self.width - in_flight)


@dataclass(frozen=True, slots=True)
class Generational:
    """Waits until a brood has ended before the next begins, so slots idle at the end of each."""

    brood: int
    """Births in a generation."""

    def room(self, in_flight: int, started: int) -> int:
        """Return how many births may begin now.

        Args:
            in_flight: births begun and not ended.
            started: births begun so far, the seed not counted; says how much of the present brood is still to begin,
                also after a resume.
        """
        begun = started % self.brood
        if begun:
            return self.brood - begun
        return 0 if in_flight else self.brood


Pacing = SteadyState | Generational


def automatic_population(experiments: int | None, slots: int) -> int:
    """Return the members, over all islands, for a run of so many experiments on so many slots.

    Greedy is hard to beat when experiments are few: on one landscape, given the same proposals, keep-the-best reached
    0.9749, 0.9703 and 0.9686 after 50, 125 and 300 experiments where two population engines were behind at every one of
    the three; and autoresearch's own 125 experiments took 82 % of their gain in ten sequential keeps. A member that is
    not the best costs the births that it parents, and a second island half of them. So there is one member for 100
    experiments, beginning at `NEAR_GREEDY`, which several nights on one GPU (80 to 100 experiments each) do not leave.

    Many slots turn few rounds: on 16, 125 experiments are 8 rounds of children of the same parents, and only crossover
    unites their separate gains. So there is at least one member for four slots, if each still gets 20 experiments.

    Args:
        experiments: trainings that the budget allows; None, no limit, is taken for 1,600, a week on one GPU.
        slots: experiments that run at a time.
    """
    experiments = 1600 if experiments is None else experiments
    wanted = max(experiments // 100, slots // 4)
    return max(NEAR_GREEDY, min(wanted, experiments // 20, max(64, slots)))


def planned_experiments(config: Config, slots: int) -> int | None:
    """Return the trainings that a configuration's limits allow, hours included; None without a limit.

    An experiment is taken for its training budget and a fifth of it, for start-up and scoring.
    """
    planned = [] if config.max_experiments is None else [config.max_experiments]
    if config.max_hours is not None:
        planned.append(max(1, round(config.max_hours * 3600 * slots / (1.2 * config.train_seconds))))
    return min(planned, default=None)


def capacities(population_size: int, num_islands: int) -> list[int]:
    """Share a population out among islands, as evenly as can be, the first ones larger.

    An island of one member has no tournament and no crossover; so there are fewer islands than asked for if they would
    hold less than two each.

    Raises:
        ValueError: population_size < 1 or num_islands < 1.
    """
    if population_size < 1 or num_islands < 1:
        raise ValueError(
            f"capacities: expected at least one member and island, got {population_size} and {num_islands}"
        )
    return shared_out(population_size, max(1, min(num_islands, population_size // 2)))


def shared_out(population_size: int, islands: int) -> list[int]:
    """Share a population out among exactly so many islands, the first ones larger.

    Raises:
        UsageError: fewer members than islands.
    """
    if population_size < islands:
        raise UsageError(f"population_size is {population_size}: must be at least {islands}, one for each island.")
    size, larger = divmod(population_size, islands)
    return [size + (index < larger) for index in range(islands)]


def ready_ahead(slots: int) -> int:
    """Return how many experiments wait beside the busy slots, so that a slot that falls free finds its next at once."""
    return max(2, slots // 4)


def width(slots: int, operator_seconds: float, experiment_seconds: float) -> int:
    """Return how many births are kept in flight: those that train, those that wait, and those that are being made.

    Slots ask for slots / experiment_seconds proposals a second, so by Little's law that times operator_seconds are in
    the making at a time. More would only breed from older parents, hence at most four for each slot.

    Args:
        slots: experiments that run at a time.
        operator_seconds: from asking for parents to the proposal, as it was lately.
        experiment_seconds: wall-clock time of an experiment, as it was so far.
    """
    making = math.ceil(slots * operator_seconds / max(experiment_seconds, 1e-3))
    return slots + ready_ahead(slots) + min(making, 4 * slots)


def migrates_after(birth_number: int, migration_interval: int) -> bool:
    """Return whether a migration is due once birth `birth_number` (the seed is 0) has been made."""
    return birth_number > 0 and birth_number % migration_interval == 0


def neighbour(island: int, num_islands: int) -> int:
    """Return the island that `island` sends its emigrants to: the next on the ring, itself if it is the only one."""
    return (island + 1) % num_islands


def emigrant_count(capacity: int, migration_rate: float) -> int:
    """Return how many of an island's members migrate: a fraction, at least one, none at rate 0."""
    return max(1, round(capacity * migration_rate)) if migration_rate > 0 else 0
