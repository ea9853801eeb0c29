"""A run as one HTML file to mail: no scripts, pictures as inline SVG, the same figures as everywhere else.

Owns what the file says. Does not own markup (html.py), the scores (lineage/query.py) or `progress.png` (report.py).
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from typing import Any

import numpy as np

from autoresearch_ray.explore import report, text, variants
from autoresearch_ray.explore.html import Markup, difference, document, element, table
from autoresearch_ray.explore.report import Progress
from autoresearch_ray.explore.standing import standing
from autoresearch_ray.explore.tree import node
from autoresearch_ray.lineage.query import Lineage

MOST_DOTS = 4000
MOST_ROWS = 20
MOST_REASONS = 10
MOST_DIFF_LINES = 400
_WIDTH, _HEIGHT = 1000, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 12, 20, 30


def page(lineage: Lineage) -> str:
    """Return the page as HTML text."""
    run = text.plain(lineage.tables.run)
    body: list[Markup | None] = [
        element("h1", run),
        element("p", _sentence(lineage), class_="quiet"),
        *(element("p", sentence, class_="warn") for sentence in lineage.tables.damage),
        _figures(lineage),
        progress_chart(report.gather(lineage)),
    ]
    if lineage.leader is not None:
        body += [*_way(lineage, lineage.leader), *_change(lineage, lineage.leader)]
    body += [*_best(lineage), *_failures(lineage), element("p", _footnote(lineage), class_="faint")]
    return document(run, *(piece for piece in body if piece is not None))


def _sentence(lineage: Lineage) -> str:
    if lineage.leader is None:
        return "Nothing has been scored yet."
    best = node(lineage, lineage.leader)
    what = "The champion" if lineage.champion is not None else "The best so far, not confirmed on fresh seeds,"
    return f"{what} is {text.short(best['variant_id'])}: {text.plain(best['hypothesis'])}"


def _figures(lineage: Lineage) -> Markup:
    statuses = Counter(lineage.statuses)
    usd = sum(amount or 0.0 for amount in lineage.column("llm_usd"))
    wall = float(np.nansum(lineage.tables.experiments["wall_seconds"].to_numpy()))
    shown: list[tuple[str, object]] = [("births", f"{len(lineage):,}"), ("scored", f"{statuses['completed']:,}")]
    shown.append(("experiments", f"{lineage.trainings:,}"))
    if lineage.carried:
        shown.append(("carried over", f"{lineage.carried:,}"))
    best = standing(lineage)
    if best is not None:
        shown.insert(0, ("champion, on fresh seeds" if best.confirmed else "best, unconfirmed", text.score(best.score)))
        shown.insert(1, ("against the seed", gain_words(best.gain, best.gain_error, lower=lineage.lower_is_better)))
    shown.append(("noise of one training", "not known" if lineage.sigma is None else f"σ {lineage.sigma:.4f}"))
    shown.append(("slot time", text.seconds(wall)))
    if usd:
        shown.append(("language models", f"${usd:,.2f}"))
    return element(
        "div", [element("div", element("span", name), element("b", value)) for name, value in shown], class_="figures"
    )


def _score(position: int, lineage: Lineage) -> str:
    return (
        text.score(lineage.score(position)) if lineage.completed[position] else text.status(lineage.statuses[position])
    )


def gain(lineage: Lineage, position: int, other: int) -> Markup:
    """Return by how much a variant changed the score of another, with its error and a mark where it may be luck."""
    value, error = lineage.gain(position, other), lineage.gain_error(position, other)
    return gain_words(value, error, lower=lineage.lower_is_better)


def gain_words(value: float | None, error: float | None, *, lower: bool) -> Markup:
    """Return a gain, as `gain` does."""
    words = text.gain_text(value, error, lower=lower).plain
    told = value is not None and error is not None and abs(value) > 2 * error
    tone = "faint" if not told else "good" if value is not None and value > 0 else "bad"
    uncertain = "" if value is None or error is None else f" ±{error:.4f}"
    return element("span", words, element("span", uncertain, class_="faint"), class_=tone)


# ------------------------------------------------------------------------------------------------------------ picture


def progress_chart(shown: Progress) -> Markup:
    """Return every experiment and the best so far as SVG; of very many, an even selection."""
    low, high = report.vertical_range(shown)
    count = len(shown.scores)
    right = _WIDTH - _RIGHT

    def x(number: float) -> float:
        return round(_LEFT + (right - _LEFT) * (number - 1) / max(count - 1, 1), 1)

    def y(score: float) -> float:
        clipped = min(max(score, low), high)
        return round(_TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - clipped) / ((high - low) or 1), 1)

    parts: list[Markup] = [*_grid(low, high, y), *_dots(shown, x, y)]
    if shown.seed is not None:
        level = y(shown.seed)
        parts.append(
            element("line", x1=_LEFT, x2=right, y1=level, y2=level, stroke="var(--ink-3)", stroke_dasharray="4 4")
        )
        parts.append(element("text", f"seed {shown.seed:.4f}", x=right, y=level - 5, text_anchor="end"))
    if len(shown.first):
        parts += _running(shown, x, y, right)
    drawn = f", {MOST_DOTS:,} of them drawn" if count > MOST_DOTS else ""
    parts.append(element("text", f"{count:,} experiments{drawn}", x=right, y=_HEIGHT - 6, text_anchor="end"))
    parts.append(element("text", shown.metric, x=_LEFT, y=12))
    label = "Every experiment and the best so far"
    picture = element("svg", parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=label)
    return element("div", picture, class_="scroll")


def _grid(low: float, high: float, y: Any) -> list[Markup]:
    step = 10.0 ** math.floor(math.log10((high - low) or 1))
    step = next(step * part for part in (1, 0.5, 0.25, 0.2, 0.1) if (high - low) / (step * part) >= 4)
    digits = max(0, -math.floor(math.log10(step)) + (1 if str(f"{step:e}")[0:3] == "2.5" else 0))
    values = [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    lines = [element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y(v), y2=y(v), stroke="var(--line)") for v in values]
    return lines + [element("text", f"{v:.{digits}f}", x=_LEFT - 8, y=y(v) + 4, text_anchor="end") for v in values]


def _dots(shown: Progress, x: Any, y: Any) -> list[Markup]:
    count = len(shown.scores)
    chosen: list[int] = []
    if count:
        chosen = [int(place) for place in np.unique(np.linspace(0, count - 1, min(count, MOST_DOTS)).astype(int))]
    radius = 3 if count < 400 else 1.6
    dots = []
    for place in chosen:
        failed = not math.isfinite(shown.scores[place])
        height = _TOP + 4 if failed else y(shown.scores[place])
        dots.append(element("circle", cx=x(place + 1), cy=height, r=radius, fill="var(--bad)" if failed else None))
    return [element("g", dots, fill="var(--dot)", fill_opacity=0.6)]


def _running(shown: Progress, x: Any, y: Any, right: float) -> list[Markup]:
    ends = [*(x(number) for number in shown.first[1:]), right]
    line, band = "", []
    for number, end, mean, error in zip(shown.first, ends, shown.means, shown.errors, strict=True):
        start, top, bottom = x(number), y(mean + 1.96 * error), y(mean - 1.96 * error)
        line += f"{'L' if line else 'M'}{start},{y(mean)}H{end}"
        band.append(element("rect", x=start, y=top, width=max(end - start, 0), height=max(bottom - top, 0)))
    marks = [
        element("circle", cx=x(number), cy=y(mean), r=3.5)
        for number, mean in zip(shown.first, shown.means, strict=True)
    ]
    return [
        element("g", band, fill="var(--band)"),
        element("path", d=line, fill="none", stroke="var(--accent)", stroke_width=2),
        element("g", marks if len(marks) < 200 else [], fill="var(--accent)"),
    ]


# ------------------------------------------------------------------------------------------------------------- tables


def _way(lineage: Lineage, leader: int) -> list[Markup]:
    confirmed = set(lineage.tables.champions["variant_id"].to_pylist())
    rows = []
    for place in lineage.path(leader):
        step = node(lineage, place)
        parent = lineage.position(step["parent"]) if step["parent"] else None
        mark = "champion" if step["champion"] else "confirmed" if step["variant_id"] in confirmed else "unconfirmed"
        rows.append(
            [
                element("code", text.short(step["variant_id"])),
                _score(place, lineage),
                gain(lineage, place, parent) if parent is not None else "",
                gain(lineage, place, lineage.seed) if lineage.seed not in (None, place) else "",
                element("span", mark, class_="good" if mark != "unconfirmed" else "faint") if step["parents"] else "",
                text.plain(step["hypothesis"]),
            ]
        )
    names = ("variant", "score ± (trainings)", "change", "so far", "", "what changed")
    return [
        element("h2", "From the seed to the champion" if lineage.champion is not None else "From the seed to the best"),
        table(names, rows),
    ]


def _change(lineage: Lineage, leader: int) -> list[Markup]:
    if lineage.seed is None or lineage.seed == leader:
        return []
    before, after = (lineage.source(place).splitlines() for place in (lineage.seed, leader))
    lines = list(difflib.unified_diff(before, after, "seed/train.py", "champion/train.py", lineterm="", n=2))
    cut = [f"... {len(lines) - MOST_DIFF_LINES} more lines"] if len(lines) > MOST_DIFF_LINES else []
    return [element("h2", "Its whole change against the seed"), difference([*lines[:MOST_DIFF_LINES], *cut])]


def _mark(entry: dict[str, Any]) -> str:
    """Return whether a variant was confirmed on fresh seeds; the seed has nothing to confirm."""
    if entry["champion"] or entry["confirmed"]:
        return "champion" if entry["champion"] else "was champion"
    return "unconfirmed" if entry["parents"] else ""


def _best(lineage: Lineage) -> list[Markup]:
    rows = [
        [
            element("code", text.short(entry["variant_id"])),
            text.plain(entry["operator"]),
            _score(lineage.find(entry["variant_id"]), lineage),
            _mark(entry),
            text.plain(entry["hypothesis"]),
        ]
        for entry in variants.best(lineage, MOST_ROWS)["best"]
    ]
    return (
        [element("h2", "The best"), table(("variant", "by", "score ± (trainings)", "", "what changed"), rows)]
        if rows
        else []
    )


def _failures(lineage: Lineage) -> list[Markup]:
    reasons = Counter(
        (status, text.plain(reason)[:160])
        for status, reason in zip(lineage.statuses, lineage.column("reason"), strict=True)
        if status != "completed"
    )
    rows = [[count, text.status(status), reason] for (status, reason), count in reasons.most_common(MOST_REASONS)]
    return [element("h2", "What failed"), table(("births", "how", "why"), rows)] if rows else []


def _footnote(lineage: Lineage) -> str:
    classes = ", ".join(text.plain(word) for word in lineage.tables.variants["class"].unique().to_pylist())
    return f"± is a standard error; ? marks a gain that may be luck. Class: {classes or 'none yet'}."
