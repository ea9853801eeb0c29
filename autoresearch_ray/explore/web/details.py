"""What the page asks about single variants: everything known, sources and differences, sortable ideas.

Each answer is plain JSON values, hostile text in them as it is: the page never treats it as markup.
Does not own descent or scores (lineage/query.py) or the points of the tree (points.py).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from autoresearch_ray.explore import variants
from autoresearch_ray.explore.tree import Filters, node
from autoresearch_ray.lineage.query import Lineage
from autoresearch_ray.lineage.schema import Row, event_details
from autoresearch_ray.variant import Status

CONTEXT_LINES = 3
MOST_COMPARED = 6
MOST_RELATIVES = 200
PAGE = 200
"""Rows that one request for ideas gives at most."""


def variant(lineage: Lineage, position: int) -> dict[str, Any]:
    """Return everything about a variant but its source, with its parents' training curves beside its own."""
    shown = variants.variant(lineage, position, prompt=True)
    for parent in shown["parents"]:
        parent["curve"] = _curve(lineage.experiments(lineage.find(parent["variant_id"])))
    confirmed = [row for row in lineage.tables.champions.to_pylist() if row["variant_id"] == shown["variant_id"]]
    return {
        **shown,
        "sigma": lineage.sigma,
        "metric": lineage.metric,
        "confirmed": variants.plain_row(confirmed[-1]) if confirmed else None,
        "children_best": [lineage.ids[child] for child in _best_first(lineage, lineage.children(position))],
        "siblings": [lineage.ids[child] for child in _best_first(lineage, _siblings(lineage, position))],
        "wall_seconds": sum(experiment["wall_seconds"] or 0.0 for experiment in shown["experiments"]),
    }


def _siblings(lineage: Lineage, position: int) -> list[int]:
    """Return the children of a variant's better parent that count it as theirs, itself among them."""
    parent = int(lineage.primary[position])
    if parent < 0:
        return [position]
    return [child for child in lineage.children(parent) if lineage.primary[child] == parent]


def _best_first(lineage: Lineage, positions: list[int]) -> list[int]:
    costs = np.where(lineage.completed, lineage.costs, np.nan)[positions]
    return [positions[place] for place in np.argsort(costs, kind="stable")][:MOST_RELATIVES]


def _curve(experiments: Sequence[Row]) -> list[dict[str, float]]:
    """Return the training curve of the first completed experiment."""
    done = [experiment for experiment in experiments if experiment["status"] == Status.COMPLETED.value]
    return list(done[0]["curve"]) if done else []


def source(lineage: Lineage, position: int) -> dict[str, Any]:
    """Return a variant's source, and its difference from each parent's."""
    own = lineage.source(position)
    parents = [int(parent) for parent in lineage.parents[position] if parent >= 0]
    return {
        "source": own,
        "diffs": [
            {"variant_id": lineage.ids[parent], "lines": difference(lineage.source(parent), own)} for parent in parents
        ],
    }


def difference(before: str, after: str) -> list[list[Any]]:
    """Return what changed as lines: [kind, line number before, line number after, text].

    Kinds: `=` both have it, `-` only the first, `+` only the second, `@` lines are left out here.
    """
    old, new = before.splitlines(), after.splitlines()
    lines: list[list[Any]] = []
    for number, group in enumerate(difflib.SequenceMatcher(None, old, new).get_grouped_opcodes(CONTEXT_LINES)):
        if number:
            lines.append(["@", None, None, ""])
        for tag, first, last, begin, end in group:
            if tag == "equal":
                lines += [["=", first + k + 1, begin + k + 1, old[first + k]] for k in range(last - first)]
            else:
                lines += [["-", k + 1, None, old[k]] for k in range(first, last)]
                lines += [["+", None, k + 1, new[k]] for k in range(begin, end)]
    return lines


def compare(lineage: Lineage, positions: Sequence[int]) -> dict[str, Any]:
    """Return some variants side by side, and the difference of the last from the first."""
    chosen = list(dict.fromkeys(positions))[:MOST_COMPARED]
    shown = [variants.variant(lineage, position) for position in chosen]
    for entry in shown:
        entry["curve"] = _curve(entry["experiments"])
        for experiment in entry["experiments"]:
            experiment.pop("log_tail"), experiment.pop("curve")
    lines = difference(lineage.source(chosen[0]), lineage.source(chosen[-1])) if len(chosen) > 1 else []
    return {
        "variants": shown,
        "diff": lines,
        "gain": lineage.gain(chosen[-1], chosen[0]) if chosen else None,
        "gain_error": lineage.gain_error(chosen[-1], chosen[0]) if chosen else None,
        "lower_is_better": lineage.lower_is_better,
    }


def happenings(lineage: Lineage, count: int = 100) -> list[dict[str, Any]]:
    """Return the last events, the newest first: migrations, challenges and their verdicts, notes, resizes."""
    events = lineage.tables.events
    rows = events.slice(max(0, len(events) - count)).to_pylist()[::-1]
    return [{**variants.plain_row(row), "details": _told(event_details(row))} for row in rows]


def _told(details: dict[str, Any]) -> dict[str, Any]:
    """Leave out what only a driver reads: a run's noise, operators and ideas, as another one carried them over."""
    return {name: value for name, value in details.items() if name not in ("noise", "operators", "ideas", "notes")}


# ------------------------------------------------------------------------------------------------------------- ideas


def ideas(
    lineage: Lineage,
    facts: Mapping[str, npt.NDArray[np.float64]],
    wanted: npt.NDArray[np.bool_],
    *,
    sort: str = "gain",
    descending: bool = True,
    skip: int = 0,
    limit: int = PAGE,
) -> dict[str, Any]:
    """Return births as a page of a sorted table; what a column says nothing of comes last.

    Args:
        lineage: the run.
        facts: the columns of `sortable`.
        wanted: which births, by position.
        sort: a column of `facts`.
        descending: the greatest first.
        skip: rows to leave out.
        limit: rows to return, at most PAGE.
    """
    positions = np.flatnonzero(wanted)
    values = facts[sort][positions]
    keys = np.where(np.isnan(values), np.inf, -values if descending else values)
    order = positions[np.argsort(keys, kind="stable")][skip : skip + min(limit, PAGE)]
    return {
        "found": len(positions),
        "skipped": skip,
        "ideas": [
            {
                **node(lineage, int(position)),
                "usd": float(facts["usd"][position]),
                "hours": float(facts["hours"][position]),
            }
            for position in order
        ],
    }


def sortable(lineage: Lineage) -> dict[str, npt.NDArray[np.float64]]:
    """Return the columns by which ideas are sorted, by position; NaN where there is nothing to say."""
    table = lineage.tables.experiments
    positions = lineage.positions_of(table["variant_id"])
    known = positions >= 0
    wall = np.nan_to_num(table["wall_seconds"].to_numpy())[known] / 3600
    padded = np.append(np.where(lineage.completed, lineage.costs, np.nan), np.nan)
    words = {name: _ranks(lineage.column(name)) for name in ("hypothesis", "operator", "model", "status")}
    return {
        "number": np.asarray(lineage.column("number"), dtype=np.float64),
        "score": np.where(lineage.completed, lineage.means, np.nan),
        "gain": padded[lineage.primary] - padded[:-1],
        "usd": np.asarray(lineage.column("llm_usd"), dtype=np.float64),
        "hours": np.bincount(positions[known], wall, minlength=len(lineage)).astype(np.float64),
        "generation": lineage.generations.astype(np.float64),
        "island": np.asarray(lineage.column("island"), dtype=np.float64),
        "trainings": lineage.counts.astype(np.float64),
        **words,
    }


def _ranks(words: Sequence[str | None]) -> npt.NDArray[np.float64]:
    ordered = {word: float(place) for place, word in enumerate(sorted({word for word in words if word is not None}))}
    return np.asarray([np.nan if word is None else ordered[word] for word in words], dtype=np.float64)


def matching(lineage: Lineage, filters: Filters, words: str) -> npt.NDArray[np.bool_]:
    """Return which births pass filters and say all words in their hypothesis, reason, status, operator or id."""
    passed = filters.matches(lineage)
    wanted = words.casefold().split()
    if wanted:
        reasons = lineage.column("reason")
        for position in np.flatnonzero(passed):
            told = f"{lineage.ids[position]} {lineage.hypotheses[position]} {reasons[position]} "
            told = f"{told}{lineage.statuses[position]} {lineage.operators[position]}".casefold()
            passed[position] = all(word in told for word in wanted)
    return passed
