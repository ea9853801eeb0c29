"""Find births by what was said of them: hypotheses and reasons.

Owns the matching and its table. Does not own descent or scores (lineage/query.py).
"""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from autoresearch_ray.explore import text
from autoresearch_ray.explore.tree import node
from autoresearch_ray.lineage.query import Lineage


def search(lineage: Lineage, words: str, *, limit: int = 50, skip: int = 0) -> dict[str, Any]:
    """Return the births whose hypothesis, reason or status holds all words, whatever their case, newest first.

    Args:
        lineage: the run.
        words: separated by spaces.
        limit: return at most so many.
        skip: leave out so many first: the next page.
    """
    wanted = words.casefold().split()
    told = [
        f"{hypothesis} {reason} {status} {operator}".casefold()
        for hypothesis, reason, status, operator in zip(
            lineage.hypotheses, lineage.column("reason"), lineage.statuses, lineage.operators, strict=True
        )
    ]
    found = [position for position in reversed(range(len(told))) if all(word in told[position] for word in wanted)]
    return {
        "run": lineage.tables.run,
        "words": words,
        "found": len(found),
        "skipped": skip,
        "births": [node(lineage, position) for position in found[skip : skip + limit]],
    }


def draw(shown: dict[str, Any]) -> RenderableType:
    """Draw what `search` returned."""
    if not shown["births"]:
        return Text(f"{text.plain(shown['run'])}: no birth says {text.plain(shown['words'])!r}")
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for name, width in (("variant", 7), ("score or status", 18), ("change ±", 16)):
        table.add_column(name, width=width, no_wrap=True, overflow="ellipsis")
    table.add_column("what changed, and why it failed", overflow="fold", ratio=1)
    for birth in shown["births"]:
        done = birth["status"] == "completed" and birth["val_bpb"] is not None
        error = "" if birth["standard_error"] is None else f" ±{birth['standard_error']:.4f}"
        score = f"{birth['val_bpb']:.4f}{error} ({birth['replicates']})" if done else text.status(birth["status"])
        what = Text(text.plain(birth["hypothesis"]))
        if birth["reason"]:
            what.append(f"  {text.plain(birth['reason'])}", style="dim")
        gain = text.gain_and_error(birth["gain"], birth["gain_error"], lower=birth["lower_is_better"])
        table.add_row(text.short(birth["variant_id"]), Text(score), gain, what)
    last = shown["skipped"] + len(shown["births"])
    more = f"; --skip {last} shows the next" if last < shown["found"] else ""
    return Group(table, Text(f"{shown['skipped'] + 1} to {last} of {shown['found']} births{more}", style="dim"))
