"""What a new run takes over from another: population, ideas, noise, and what its operators have brought. Read only.

Owns which variants are carried, and the refusals. Does not own how they enter the new run (opening.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from autoresearch_ray.config import Config
from autoresearch_ray.errors import UsageError
from autoresearch_ray.evolution.memory import IDEAS, idea_record
from autoresearch_ray.evolution.replay import Replayed, replay
from autoresearch_ray.lineage import schema, snapshot
from autoresearch_ray.lineage.archive import Archive
from autoresearch_ray.lineage.query import Lineage
from autoresearch_ray.lineage.schema import Origin
from autoresearch_ray.operators.request import Idea
from autoresearch_ray.variant import Experiment, Purpose, Result, Status

CARRIED = 512
"""Variants that are carried at most: the members first, then their ancestors, the nearest first."""
OF_A_CLIMBER = 8
"""Of a run without islands, as one imported from autoresearch, so many of the best are its population."""


@dataclass(frozen=True, slots=True)
class Carried:
    """One variant of the other run."""

    variant_id: str
    """In the other run."""
    origin: str
    """`RUN/VARIANT_ID` where it was born, which is the other run unless that had carried it over too."""
    parents: tuple[str, ...]
    """The nearest of its ancestors that are carried too; empty for the seed, and where scores do not count here."""
    island: int
    source: str
    hypothesis: str
    model: str | None
    step_size: float | None
    ast_hash: str | None
    trainings: tuple[tuple[Experiment, Result], ...] = ()
    """Its completed trainings; empty where the classes differ."""


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What another run leaves to a new one."""

    run: str
    hardware_class: str
    scored: bool
    """The classes agree, so that scores, noise and descent are carried; else sources only, to be trained again."""
    seed: Carried
    variants: tuple[Carried, ...]
    """Without the seed; parents before children where scored, else the best first."""
    ideas: tuple[Idea, ...]
    """The last ones, failed ones among them, oldest first."""
    noise: Mapping[str, Any] | None
    operators: Mapping[str, Any] | None
    notes: str = ""
    """Those of the last reflection."""

    def details(self, ids: Mapping[str, str]) -> dict[str, Any]:
        """Return the details of the event `carried`: plain JSON values.

        Args:
            ids: the carried variants' ids in the new run by those in the other.
        """
        noise = self.noise
        if noise is not None:
            known = [[ids[name], count, mean] for name, count, mean in noise["variants"] if name in ids]
            noise = {**noise, "variants": known}
        renamed = [
            replace(
                idea,
                variant_id=ids.get(idea.variant_id, idea.variant_id),
                parents=tuple(ids.get(parent, parent) for parent in idea.parents),
            )
            for idea in self.ideas
        ]
        return {
            "from": self.run,
            "class": self.hardware_class,
            "scored": self.scored,
            "variants": len(self.variants),
            "ideas": [idea_record(idea) for idea in renamed],
            "noise": noise,
            "operators": self.operators,
            "notes": self.notes,
        }


def gather(folder: Path, config: Config, origin: Origin) -> Inheritance:
    """Read what a run leaves to a new one.

    Args:
        folder: the other run's, live or finished.
        config: the new run's.
        origin: what the new run's rows will say; its class decides whether scores are carried.

    Raises:
        RunError: the folder is not a run.
        UsageError: its metric or its data are not the new run's, nothing was scored, or a part is damaged.
    """
    lineage = Lineage.open(folder)
    theirs = _check(lineage, config, origin)
    scored = theirs == (origin.hardware_class, origin.data_hash)
    before = None if _imported(lineage) else replay(Archive(lineage.tables))
    members = _members(lineage, before)
    if scored:
        chosen = _with_ancestors(lineage, members)
    else:
        chosen = sorted(members, key=lambda place: float(lineage.costs[place]))[:CARRIED]
    carried = _carried(lineage, [_seed(lineage), *chosen], scored=scored)
    return Inheritance(
        run=lineage.tables.run,
        hardware_class=theirs[0],
        scored=scored,
        seed=carried[0],
        variants=tuple(each for each in carried[1:] if each.source),
        ideas=_ideas(lineage),
        noise=before.state.noise.recorded() if before is not None and scored else None,
        operators=before.state.allocation.recorded() if before is not None else None,
        notes=before.notes[0] if before is not None else "",
    )


def _check(lineage: Lineage, config: Config, origin: Origin) -> tuple[str, str]:
    """Return the other run's class and data hash (Raises UsageError: nothing of it can be used here)."""
    run, variants = lineage.tables.run, lineage.tables.variants
    if lineage.tables.damage:
        problem = lineage.tables.damage[0].partition(": its rows")[0].rstrip(".")
        raise UsageError(
            f"--from {run}: its population is not known, because {problem}: start from one variant instead, as "
            f"--from {run}:best."
        )
    if lineage.seed is None or not lineage.best(1):
        raise UsageError(f"--from {run}: nothing was scored in it, so that there is nothing to carry over.")
    goal = "minimize" if lineage.lower_is_better else "maximize"
    if (lineage.metric, goal) != (config.metric.name, config.metric.goal):
        raise UsageError(
            f"--from {run}: it {goal}s {lineage.metric}, and the new run {config.metric.goal}s {config.metric.name}."
        )
    theirs, data = variants["class"][0].as_py(), variants["data_hash"][0].as_py()
    if data and data != origin.data_hash:
        raise UsageError(
            f"--from {run}: it was trained on other data ({data[:12]}) than the new run would be "
            f"({origin.data_hash[:12]}): prepare its data, or start from one variant, as --from {run}:best."
        )
    return theirs, data


def _imported(lineage: Lineage) -> bool:
    """Say whether another program made the run: it has no islands to fold."""
    events = lineage.tables.events
    started = events.filter(pc.equal(events["kind"], "started")).slice(0, 1).to_pylist()
    return not started or "capacities" not in schema.event_details(started[0])


def _seed(lineage: Lineage) -> int:
    return 0 if lineage.seed is None else lineage.seed


def _members(lineage: Lineage, before: Replayed | None) -> set[int]:
    """Return the positions of the population, the champion and the best, without the seed."""
    best = lineage.best(OF_A_CLIMBER if before is None else 1)
    found = {*best, *([] if lineage.champion is None else [lineage.champion])}
    for island in () if before is None else before.islands:
        names = (member.variant.variant_id for member in island)
        found |= {place for name in names if (place := lineage.position(name)) is not None}
    return {place for place in found if lineage.completed[place]} - {_seed(lineage)}


def _with_ancestors(lineage: Lineage, members: set[int]) -> list[int]:
    """Return members and their ancestors, as many as are carried at most, parents before children."""
    kept = set(sorted(members, key=lambda place: float(lineage.costs[place]))[:CARRIED])
    layer = set(kept)
    while layer and len(kept) < CARRIED:
        above = {int(parent) for place in layer for parent in lineage.parents[place] if parent >= 0}
        layer = above - kept - {_seed(lineage)}
        kept |= set(sorted(layer)[: CARRIED - len(kept)])
    return sorted(kept, key=lambda place: (int(lineage.generations[place]), place))


def _carried(lineage: Lineage, places: list[int], *, scored: bool) -> list[Carried]:
    kept = set(places)
    sequences = {place: lineage.tables.variants["sequence"][place].as_py() for place in places}
    columns = ["source", "model", "step_size", "ast_hash", "island", "carried_from"]
    rows = snapshot.fetch(lineage.tables.folder, "variants", list(sequences.values()), columns)
    trainings = _trainings(lineage, [lineage.ids[place] for place in places]) if scored else {}
    return [
        Carried(
            variant_id=lineage.ids[place],
            origin=row["carried_from"] or f"{lineage.tables.run}/{lineage.ids[place]}",
            parents=_nearest(lineage, place, kept) if scored else (),
            island=row["island"],
            source=row["source"] or "",
            hypothesis=lineage.hypotheses[place],
            model=row["model"],
            step_size=row["step_size"],
            ast_hash=row["ast_hash"],
            trainings=tuple(trainings.get(lineage.ids[place], ())),
        )
        for place in places
        for row in [rows[sequences[place]]]
    ]


def _nearest(lineage: Lineage, place: int, kept: set[int]) -> tuple[str, ...]:
    """Return the nearest carried ancestors along each parent, none twice."""
    found = []
    for parent in lineage.parents[place]:
        at = int(parent)
        while at >= 0 and at not in kept:
            at = int(lineage.primary[at])
        if at >= 0 and lineage.ids[at] not in found:
            found.append(lineage.ids[at])
    return tuple(found)


def _trainings(lineage: Lineage, ids: list[str]) -> dict[str, list[tuple[Experiment, Result]]]:
    """Return the completed trainings of some variants, whose seconds were another run's to spend."""
    table = lineage.tables.experiments
    table = table.filter(pc.and_(pc.is_in(table["variant_id"], pa.array(ids)), pc.is_valid(table["val_bpb"])))
    rows = [row for row in table.to_pylist() if row["status"] == Status.COMPLETED.value]
    bulky = snapshot.fetch(
        lineage.tables.folder, "experiments", [row["sequence"] for row in rows], ["curve", "log_tail"]
    )
    found: dict[str, list[tuple[Experiment, Result]]] = {}
    for row in rows:
        origin = row.get("carried_from") or f"{lineage.tables.run}/{row['experiment_id']}"
        name, variant_id = row["experiment_id"], row["variant_id"]
        experiment = Experiment(name, variant_id, "", row["seed"], purpose=Purpose.CARRIED, carried_from=origin)
        result = replace(
            schema.result_of(row | bulky.get(row["sequence"], {})),
            train_seconds=0.0,
            startup_seconds=0.0,
            wall_seconds=0.0,
            scoring_seconds=0.0,
        )
        found.setdefault(variant_id, []).append((experiment, result))
    return found


def _ideas(lineage: Lineage) -> tuple[Idea, ...]:
    rows = lineage.tables.variants
    wanted = (place for place in range(len(lineage) - 1, -1, -1) if _told(lineage, place))
    places = [place for _, place in zip(range(IDEAS), wanted, strict=False)][::-1]
    return tuple(_idea(lineage, place, row) for place, row in _taken(rows, places))


def _told(lineage: Lineage, place: int) -> bool:
    return place != lineage.seed and lineage.statuses[place] != Status.LOST.value


def _taken(rows: pa.Table, places: list[int]) -> Iterable[tuple[int, dict[str, Any]]]:
    return zip(places, rows.take(pa.array(places, pa.int64())).to_pylist(), strict=True)


def _idea(lineage: Lineage, place: int, row: dict[str, Any]) -> Idea:
    parent = int(lineage.primary[place])
    return Idea(
        row["variant_id"],
        row["hypothesis"],
        Status(row["status"]),
        lineage.gain(place, parent),
        lineage.gain_error(place, parent),
        row["reason"],
        parents=tuple(row["parents"]),
        island=row["island"],
        model=row["model"],
    )
