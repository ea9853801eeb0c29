"""Waiting for what a cluster says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from autoresearch_ray.evolution.cluster import Cluster, Event, Progressed
from autoresearch_ray.variant import Experiment


def experiment(name: str, source: str) -> Experiment:
    return Experiment(name, name, source, 1)


def events_until(cluster: Cluster, stop: Callable[[list[Event]], bool]) -> list[Event]:
    seen: list[Event] = []
    while not stop(seen):
        event = cluster.next_event(60.0)
        assert event is not None, f"no event within a minute; so far {seen}"
        seen.append(event)
    return seen


def final(cluster: Cluster, count: int = 1) -> list[Any]:
    """Return the next `count` events that are not progress."""
    seen = events_until(cluster, lambda seen: sum(not isinstance(event, Progressed) for event in seen) >= count)
    return [event for event in seen if not isinstance(event, Progressed)]


def trains(event: Event) -> bool:
    return isinstance(event, Progressed) and event.phase.name == "training"
