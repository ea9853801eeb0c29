"""`progress.png`: every experiment of a run and the best so far, as autoresearch's users know it.

Owns the picture. Does not own the scores (lineage/query.py) or where words fit (labels.py).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from autoresearch_ray.explore import labels, text
from autoresearch_ray.explore.labels import Box, Wish
from autoresearch_ray.explore.standing import standing
from autoresearch_ray.lineage import files
from autoresearch_ray.lineage.query import Lineage
from autoresearch_ray.variant import Status

MOST_LABELS = 14
LABEL_LETTERS = 38
_FEW = 250
"""Up to so many experiments, labels keep clear of every dot."""

_KEPT, _FAINT, _FAILED, _INK, _QUIET = "#0b7a5b", "#8b98a5", "#c2410c", "#1f2933", "#616e7c"
_SIZE = (12.0, 6.75)
_DOTS_PER_INCH = 150
_FAILURES = [Status.CRASHED.value, Status.TIMED_OUT.value, Status.REJECTED.value, Status.LOST.value]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Progress:
    """What the picture shows. Experiments are numbered from 1, in the order in which they ended."""

    title: str
    subtitle: str
    scores: Floats
    """val_bpb of each experiment, NaN where there is none; shape (experiments,)."""
    failed: npt.NDArray[np.bool_]
    """Which experiments failed; shape (experiments,)."""
    first: Integers
    """For each variant that lowered the best mean score so far: the number of the experiment that first scored it."""
    means: Floats
    """Their mean scores, falling; same shape as `first`."""
    errors: Floats
    """Their standard errors, 0 where not known; same shape as `first`."""
    hypotheses: tuple[str, ...]
    seed: float | None
    """Mean score of the seed."""
    metric: str = "validation bits per byte (lower is better)"
    """What the vertical axis is called."""
    lower_is_better: bool = True
    champion: tuple[int, float, float] | None = None
    """Of the champion: the number of its first experiment, its mean score on fresh seeds, and the standard error."""


def progress(folder: Path) -> Path:
    """Read a run and write `progress.png` into its folder, at one stroke; return where.

    Raises:
        RunError: the folder is not a run.
        StorageError: the picture cannot be written.
    """
    path = folder / "progress.png"
    picture = draw(gather(Lineage.open(folder)))
    with files.translated(folder):
        files.write_atomically(path, picture)
    return path


def gather(lineage: Lineage) -> Progress:
    """Collect what the picture shows."""
    table = lineage.tables.experiments
    scored = pc.and_(pc.equal(table["status"], Status.COMPLETED.value), pc.is_valid(table["val_bpb"]))
    scores = np.where(scored.to_numpy(), pc.fill_null(table["val_bpb"], np.nan).to_numpy(), np.nan)
    first: dict[str, int] = {}
    for place in np.flatnonzero(np.isfinite(scores)):
        first.setdefault(table["variant_id"][int(place)].as_py(), int(place) + 1)
    kept = sorted(np.flatnonzero(lineage.records), key=lambda position: first[lineage.ids[position]])
    kept = [p for place, p in enumerate(kept) if lineage.costs[p] < lineage.costs[kept[:place]].min(initial=np.inf)]
    measured = [lineage.score(int(position)) for position in kept]
    seed = None if lineage.seed is None else lineage.score(lineage.seed)
    return Progress(
        title=text.plain(lineage.tables.run),
        subtitle=_subtitle(lineage, len(kept)),
        scores=scores,
        failed=np.asarray(pc.is_in(table["status"], value_set=pa.array(_FAILURES)).to_numpy(), dtype=bool),
        first=np.asarray([first[lineage.ids[position]] for position in kept], dtype=np.int64),
        means=lineage.means[kept] if kept else np.empty(0),
        errors=np.asarray([score.error or 0.0 if score else 0.0 for score in measured], dtype=np.float64),
        hypotheses=tuple(lineage.hypotheses[position] for position in kept),
        seed=None if seed is None else seed.mean,
        metric=f"{text.metric(lineage.metric)} ({'lower' if lineage.lower_is_better else 'higher'} is better)",
        lower_is_better=lineage.lower_is_better,
        champion=_champion(lineage, first),
    )


def _champion(lineage: Lineage, first: dict[str, int]) -> tuple[int, float, float] | None:
    best = standing(lineage)
    number = None if best is None else first.get(lineage.ids[best.position])
    if best is None or not best.confirmed or best.score is None or number is None:
        return None
    return number, best.score.mean, best.score.error or 0.0


def _subtitle(lineage: Lineage, kept: int) -> str:
    trained = len(pc.unique(lineage.tables.experiments["variant_id"]))
    words = f"{_count(len(lineage.tables.experiments), 'experiment')} of {_count(trained, 'variant')}"
    if kept > 1:
        words += f", {kept - 1} times a new best"
    best = standing(lineage)
    if best is None or best.gain is None:
        return words
    what = "champion" if best.confirmed else "best (unconfirmed)"
    uncertain = "" if best.gain_error is None else f" ±{best.gain_error:.4f}"
    side = "below" if (best.gain >= 0) == lineage.lower_is_better else "above"
    name = text.short(lineage.ids[best.position])
    fresh = " on fresh seeds" if best.confirmed else ""
    return f"{words}; {what} {name} is {abs(best.gain):.4f}{uncertain} {side} the seed{fresh}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# ----------------------------------------------------------------------------------------------------------- drawing


def draw(shown: Progress) -> bytes:
    """Return the picture as PNG."""
    figure = Figure(figsize=_SIZE, dpi=_DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.075, 0.09, 0.905, 0.79))
    limits = vertical_range(shown)
    _frame(figure, axes, shown, limits)
    _experiments(axes, shown, limits)
    if shown.seed is not None:
        _seed(axes, shown.seed)
    if len(shown.first):
        _running_best(axes, shown)
        _mark_champion(axes, shown)
    else:
        axes.text(0.5, 0.5, "no experiment has been completed yet", transform=axes.transAxes, ha="center", color=_QUIET)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="lower right", bbox_to_anchor=(1.0, 1.075), ncols=6, frameon=False, fontsize=9, labelcolor=_INK,
            borderaxespad=0, handletextpad=0.4, columnspacing=1.4,
        )  # fmt: skip
    _annotate(axes, shown)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def vertical_range(shown: Progress) -> tuple[float, float]:
    """Return the scores at the lower and upper edge: what is far worse than the seed does not squash the rest."""
    if not shown.lower_is_better:
        seed = None if shown.seed is None else -shown.seed
        turned = replace(shown, scores=-shown.scores, means=-shown.means, seed=seed, lower_is_better=True)
        low, high = vertical_range(turned)
        return -high, -low
    scores = shown.scores[np.isfinite(shown.scores)]
    if not len(scores) or not len(shown.means):
        return 0.0, 1.0
    best = float(shown.means.min())
    start = shown.seed if shown.seed is not None else float(shown.means.max())
    spread = float(np.median(np.abs(scores - np.median(scores))))
    span = max(abs(start - best), 3 * spread, 4 * float(shown.errors.max(initial=0.0)), 1e-3 * abs(start), 1e-9)
    top = max(start, best)
    typical = min(float(np.quantile(scores, 0.95)), top + span)
    lowest = min(float(scores.min()), float((shown.means - shown.errors).min()))
    return min(best - 0.16 * span, lowest - 0.04 * span), max(top + 0.18 * span, typical + 0.1 * span)


def _frame(figure: Figure, axes: Axes, shown: Progress, limits: tuple[float, float]) -> None:
    count = len(shown.scores)
    axes.set_xlim(1 - max(1.0, 0.02 * count), max(count, 2) + max(1.0, 0.02 * count))
    axes.set_ylim(*limits)
    axes.set_xlabel("experiment", color=_INK)
    axes.set_ylabel(shown.metric, color=_INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(colors=_QUIET, length=0)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#cbd2d9")
    for height, words, size, weight, color in (
        (0.945, shown.title, 15, "bold", _INK),
        (0.905, shown.subtitle, 10.5, "normal", _QUIET),
    ):
        figure.text(0.075, height, _drawable(words), fontsize=size, weight=weight, color=color, parse_math=False)


def _experiments(axes: Axes, shown: Progress, limits: tuple[float, float]) -> None:
    """Draw every experiment; what failed, or is worse than the picture shows, stands at the edge of the worst."""
    count = len(shown.scores)
    numbers = np.arange(1, count + 1)
    finite, lower = np.isfinite(shown.scores), shown.lower_is_better
    inside = finite & (shown.scores <= limits[1] if lower else shown.scores >= limits[0])
    beyond = finite & ~inside
    size = float(np.clip(3000 / max(count, 1), 5, 26))
    edge = axes.get_xaxis_transform()
    if inside.any():
        axes.scatter(numbers[inside], shown.scores[inside], s=size, color=_FAINT, alpha=0.55, lw=0, label="experiment")
    if beyond.any():
        axes.scatter(
            numbers[beyond], np.full(int(beyond.sum()), 0.965 if lower else 0.035), s=size, color=_FAINT, alpha=0.8,
            lw=0, marker="^" if lower else "v", transform=edge, label="worse than shown",
        )  # fmt: skip
    if shown.failed.any():
        axes.scatter(
            numbers[shown.failed], np.full(int(shown.failed.sum()), 0.985 if lower else 0.015), s=size * 1.4,
            marker="x", color=_FAILED, alpha=0.8, lw=1.1, transform=edge, label="failed",
        )  # fmt: skip


def _mark_champion(axes: Axes, shown: Progress) -> None:
    if shown.champion is None:
        return
    number, mean, error = shown.champion
    axes.errorbar([number], [mean], yerr=[error], color=_INK, linewidth=1.4, zorder=4)
    axes.scatter([number], [mean], s=190, marker="*", color=_INK, edgecolors="white", lw=1, zorder=5, label="champion")


def _seed(axes: Axes, level: float) -> None:
    axes.axhline(level, color=_QUIET, linewidth=1, linestyle=(0, (5, 4)), zorder=1.5)
    axes.annotate(
        f"seed {level:.4f}", (1, level), xycoords=("axes fraction", "data"), xytext=(-2, 4), ha="right",
        textcoords="offset points", fontsize=9, color=_QUIET,
    )  # fmt: skip


def _running_best(axes: Axes, shown: Progress) -> None:
    numbers = np.append(shown.first, max(len(shown.scores), int(shown.first[-1])))
    levels = np.append(shown.means, shown.means[-1])
    axes.step(numbers, levels, where="post", color=_KEPT, linewidth=1.8, zorder=3, label="best so far (mean)")
    if shown.errors.any():
        axes.errorbar(shown.first, shown.means, shown.errors, fmt="none", ecolor=_KEPT, alpha=0.5, lw=1.2, zorder=3)
    axes.scatter(shown.first, shown.means, s=34, color=_KEPT, edgecolor="white", linewidth=0.8, zorder=4, label="kept")


# ------------------------------------------------------------------------------------------------------------ labels


def _annotate(axes: Axes, shown: Progress) -> None:
    """Write the hypotheses of the largest steps beside the curve, where there is room for them."""
    chosen = _most_telling(shown)
    if not chosen:
        return
    points = axes.transData.transform(np.column_stack([shown.first, shown.means]))
    sizes = [_extent(axes, _label(shown, place)) for place in chosen]
    wishes = [Wish(float(points[at, 0]), float(points[at, 1]), *size) for at, size in zip(chosen, sizes, strict=True)]
    frame = axes.get_window_extent()
    bounds = Box(frame.x0 + 4, frame.y0 + 4, frame.x1 - 4, frame.y1 - 30)
    boxes = labels.place(wishes, _obstacles(axes, shown, points), bounds)
    to_data = axes.transData.inverted()
    for place, wish, box in zip(chosen, wishes, boxes, strict=True):
        if box is None:
            continue
        end = labels.nearest(box, wish.x, wish.y)
        line = to_data.transform([(wish.x, wish.y), end])
        axes.plot(line[:, 0], line[:, 1], color=_KEPT, linewidth=0.6, alpha=0.55, zorder=2.5)
        x, y = to_data.transform((box.left, box.bottom))
        axes.text(
            x, y, _label(shown, place), fontsize=8.5, color=_INK, va="bottom", parse_math=False, zorder=5,
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip


def _most_telling(shown: Progress) -> list[int]:
    """Return which kept variants to label: the last one, then those that brought the most; never the first."""
    gains = np.abs(np.diff(shown.means))
    order = [int(place) + 1 for place in np.argsort(-gains, kind="stable")]
    last = len(shown.means) - 1
    return sorted(order, key=lambda place: place != last)[:MOST_LABELS]


def _label(shown: Progress, place: int) -> str:
    words = _drawable(text.plain(shown.hypotheses[place]))
    return words if len(words) <= LABEL_LETTERS else words[: LABEL_LETTERS - 1].rstrip() + "…"


def _extent(axes: Axes, words: str) -> tuple[float, float]:
    """Return the width and height of a label in pixels."""
    probe = axes.text(0, 0, words, fontsize=8.5, parse_math=False)
    box = probe.get_window_extent()
    probe.remove()
    return float(box.width) + 4, float(box.height) + 3


def _obstacles(axes: Axes, shown: Progress, points: Floats) -> list[Box]:
    """Return the boxes of the kept dots and of the curve's steps, and of all dots where they are not too many."""
    boxes = [Box(x, y, x, y).grown(9) for x, y in points]
    right = float(axes.get_window_extent().x1)
    for place, (x, y) in enumerate(points):
        following = points[place + 1] if place + 1 < len(points) else (right, y)
        boxes.append(Box(x, y, following[0], y).grown(3))
        boxes.append(Box(following[0], min(y, following[1]), following[0], max(y, following[1])).grown(3))
    if shown.champion is not None:
        number, mean, error = shown.champion
        (x, low), (_, high) = axes.transData.transform([(number, mean - error), (number, mean + error)])
        boxes.append(Box(x, low, x, high).grown(9))
    if len(shown.scores) <= _FEW:
        numbers = np.arange(1, len(shown.scores) + 1)
        dots = axes.transData.transform(np.column_stack([numbers, shown.scores]))
        boxes += [Box(x, y, x, y).grown(5) for x, y in dots[np.isfinite(shown.scores)]]
    return boxes


@lru_cache(maxsize=1)
def _letters() -> frozenset[int]:
    """Return the code points that the picture's font can draw."""
    return frozenset(font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap())


def _drawable(words: str) -> str:
    """Return text with what the font cannot draw replaced, which else would be warned of and drawn as a box."""
    known: Sequence[int] | frozenset[int] = _letters()
    return "".join(letter if ord(letter) in known else "?" for letter in words)
