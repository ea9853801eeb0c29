"""`run --from RUN`: finds the run that is carried on, and begins the new one with what it leaves.

Does not own what is carried (evolution/inheritance.py), or `--from RUN:ID` (starting.py).
"""

from __future__ import annotations

from autoresearch_ray.cli.exploring import find_folder
from autoresearch_ray.config import Config
from autoresearch_ray.evolution import inheritance
from autoresearch_ray.evolution.driver import Driver
from autoresearch_ray.evolution.inheritance import Inheritance
from autoresearch_ray.lineage.schema import Origin


def inherited(config: Config, origin: Origin) -> Inheritance | None:
    """Return what the run that is carried on leaves; None where none is (Raises UsageError: none of it can be used)."""
    if config.carry_from is None:
        return None
    return inheritance.gather(find_folder(config.storage, config.carry_from), config, origin)


def begin(driver: Driver, source: str, left: Inheritance | None) -> None:
    """Begin with the seed of the run that is carried on, or with `source` where there is none or it has been lost."""
    driver.begin(source if left is None else left.seed.source or source, left)
