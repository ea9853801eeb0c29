"""Every birth as a point of the tree: where it stands, whose child it is, how it is coloured.

Owns which columns the browser gets. Does not own drawing (static/tree.js) or answers about one variant (details.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from autoresearch_ray.explore.web import clock, columns
from autoresearch_ray.lineage.query import Lineage

ON_PATH, CHAMPION, WAS_CHAMPION, RECORD, SEED = 1, 2, 4, 8, 16
"""Bits of the column `flags`: on the way to the leader, the leader if confirmed, confirmed once, best when scored."""


def pack(lineage: Lineage) -> bytes:
    """Return all births as columns, in the order of positions.

    A score that there is none of is NaN; a variant that was refused has none here, however low what it claimed.
    """
    operator, operators = _coded(lineage.operators)
    model, models = _coded([name or "" for name in lineage.column("model")])
    status, statuses = _coded(lineage.statuses)
    told = lineage.completed & (lineage.counts > 0)
    ids = np.asarray(lineage.ids, dtype=np.bytes_) if len(lineage) else np.empty(0, dtype="S1")
    times = clock.seconds(lineage.tables.variants["created_at"])
    begun = np.nanmin(times) if len(times) else 0.0
    head: dict[str, Any] = {
        "count": len(lineage),
        "id_bytes": ids.itemsize,
        "operators": operators,
        "models": models,
        "statuses": statuses,
    }
    return columns.pack(
        head,
        {
            "id": np.frombuffer(ids.tobytes(), dtype=np.uint8),
            "number": np.asarray(lineage.column("number"), dtype=np.int32),
            "hours": ((times - begun) / 3600).astype(np.float32),
            "generation": lineage.generations.astype(np.int32),
            "island": np.asarray(lineage.column("island"), dtype=np.int16),
            "operator": operator,
            "model": model,
            "status": status,
            "first": lineage.parents[:, 0].astype(np.int32),
            "second": lineage.parents[:, 1].astype(np.int32),
            "score": np.where(told, lineage.means, np.nan).astype(np.float64),
            "error": _errors(lineage),
            "trainings": np.minimum(lineage.counts, 65_535).astype(np.uint16),
            "flags": _flags(lineage),
        },
    )


def _coded(words: Sequence[str]) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """Return each word's number in the list of different words; what comes after the 255th shares the last one's."""
    names = sorted(set(words))[:255]
    codes = {name: place for place, name in enumerate(names)}
    return np.asarray([codes.get(word, 254) for word in words], dtype=np.uint8), names


def _errors(lineage: Lineage) -> npt.NDArray[np.float32]:
    if lineage.sigma is not None:
        with np.errstate(divide="ignore"):
            errors = lineage.sigma / np.sqrt(lineage.counts)
        return np.where(lineage.counts > 0, errors, np.nan).astype(np.float32)
    return np.full(len(lineage), np.nan, dtype=np.float32)


def _flags(lineage: Lineage) -> npt.NDArray[np.uint8]:
    flags = np.where(lineage.records, RECORD, 0).astype(np.uint8)
    confirmed = [lineage.position(name) for name in lineage.tables.champions["variant_id"].to_pylist()]
    flags[[place for place in confirmed if place is not None]] |= WAS_CHAMPION
    if lineage.champion is not None:
        flags[lineage.champion] |= CHAMPION
    if lineage.leader is not None:
        flags[lineage.path(lineage.leader)] |= ON_PATH
    if lineage.seed is not None:
        flags[lineage.seed] |= SEED
    return flags
