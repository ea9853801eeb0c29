"""How other commands speak to a live run: small files in its folder `control/`, which its driver reads each second.

Owns the files. Does not own what an order does (evolution/driver.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autoresearch_ray.errors import RunError, UsageError
from autoresearch_ray.lineage import finding

if TYPE_CHECKING:  # the search takes a second to import, and these only look at it
    from autoresearch_ray.evolution.driver import Driver

FOLDER = "control"
SECONDS = 1.0
"""How often the driver looks."""


@dataclass(frozen=True, slots=True)
class Order:
    """One thing a live run is asked to do."""

    kind: str
    """`stop`, `resize` or `add`."""
    population_size: int = 0
    source: str = ""
    hypothesis: str = ""


def send(folder: Path, order: Order) -> None:
    """Leave an order for a live run.

    Raises:
        RunError: the run is not live, so that nobody would read it.
    """
    if not finding.is_live(folder):
        raise RunError(f"{folder.name} is not running: `autoresearch-ray resume {folder.name}` takes it up again.")
    box = folder / FOLDER
    box.mkdir(exist_ok=True)
    name = f"{time.time_ns():020d}-{os.getpid()}.json"
    temporary = box / f".{name}"
    temporary.write_text(json.dumps(asdict(order)), encoding="utf-8")
    temporary.replace(box / name)


def forget_stops(folder: Path) -> None:
    """Delete orders to stop that came too late for the sitting they were meant for; by whoever has just begun one."""
    for path in (folder / FOLDER).glob("[0-9]*.json"):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if json.loads(path.read_text(encoding="utf-8")).get("kind") == "stop":
                path.unlink()


class Controls:
    """The reading side: carries orders out in the order in which they were left, and answers in a line each."""

    def __init__(self, folder: Path) -> None:
        self._box = folder / FOLDER
        self._looked_at = 0.0

    def obey(self, driver: Driver) -> Iterator[str]:
        """Look for orders, at most once a second; yield what came of each."""
        if time.monotonic() - self._looked_at < SECONDS:
            return
        self._looked_at = time.monotonic()
        for path in sorted(self._box.glob("[0-9]*.json")) if self._box.is_dir() else ():
            try:
                yield _carry_out(driver, Order(**json.loads(path.read_text(encoding="utf-8"))))
            except UsageError as error:
                yield f"refused: {error}"
            except (ValueError, TypeError) as error:
                yield f"an order in {path.name} cannot be read ({error})"
            path.unlink(missing_ok=True)


def _carry_out(driver: Driver, order: Order) -> str:
    if order.kind == "stop":
        from autoresearch_ray.evolution.stopping import Stop  # the search takes a second to import

        driver.drain(Stop("asked", "stopped by `autoresearch-ray stop`"))
        return "stopping: what trains is finished"
    if order.kind == "resize":
        driver.resize(order.population_size)
        return f"the population may hold {order.population_size} members now"
    if order.kind == "add":
        return f"added {driver.add(order.source, order.hypothesis)[:7]}: {order.hypothesis}"
    raise ValueError(f"unknown kind {order.kind!r}")
