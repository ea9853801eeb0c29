"""Rebuild islands from the lineage: the same rows in the same order give the same members.

Owns the fold over stored rows. Does not own what a row means to the search's standings (state.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from autoresearch_ray.evolution.island import Island, Member
from autoresearch_ray.evolution.state import State
from autoresearch_ray.lineage import schema
from autoresearch_ray.lineage.snapshot import fetch
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Variant


def replay_islands(lineage: LineageStore, capacities: Sequence[int], founder: Member) -> list[list[Member]]:
    """Return each island's members after all committed rows, in the order in which they came.

    Sources are read for the members that are left, not for everything ever born.

    Args:
        lineage: the run's store; its uncommitted rows do not count.
        capacities: members each island may hold.
        founder: the seed as every island began with it, without scores.
    """
    variants: dict[str, Variant] = {}
    sequences: dict[str, int] = {}
    for recorded in lineage.replay(["variants"]):
        variant = schema.variant_of(recorded.row | {"source": None})
        variants[variant.variant_id] = variant
        sequences[variant.variant_id] = recorded.sequence
    islands = [Island(capacity, [founder]) for capacity in capacities]
    state = State()
    for recorded in lineage.replay(["experiments", "events"]):
        if recorded.table == "experiments":
            born = variants.get(recorded.row["variant_id"])
            if born is None:  # lost, and its birth has not ended: no score to take in
                continue
            scores = state.measured(born, schema.result_of(recorded.row))
            if scores:
                home = range(len(islands)) if born.birth.number == 0 else (born.birth.island,)
                for island in home:
                    islands[island].absorb(Member(born, scores), state.noise.estimate())
        elif recorded.row["kind"] == "migration":
            details = schema.event_details(recorded.row)
            for variant_id in details["variants"]:
                migrant = variants[variant_id]
                member = Member(migrant, state.scores(migrant.birth.number))
                islands[details["target"]].absorb(member, state.noise.estimate())
    wanted = {sequences[name] for island in islands for name in _names(island) if name in sequences}
    rows = fetch(lineage.folder, "variants", wanted, ["variant_id", "source"])
    sources = {row["variant_id"]: row["source"] for row in rows.values()}
    return [[_filled(member, sources) for member in island.members] for island in islands]


def _names(island: Island) -> list[str]:
    return [member.variant.variant_id for member in island.members]


def _filled(member: Member, sources: Mapping[str, str]) -> Member:
    """Return the member with its source; the founder has its own until its row is there."""
    source = sources.get(member.variant.variant_id, member.variant.source)
    return replace(member, variant=replace(member.variant, source=source))
