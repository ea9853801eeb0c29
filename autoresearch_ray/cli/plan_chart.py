"""`plan.png`: the expected true best against time, a line and a band for each population size.

Owns the picture. Does not own what was simulated (cluster/forecast.py).
"""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from autoresearch_ray.cluster.forecast import GREEDY, Forecast
from autoresearch_ray.errors import UsageError

_COLOURS = ("#8b98a5", "#0b7a5b", "#2563eb", "#c2410c", "#7c3aed", "#b45309", "#0e7490", "#be185d", "#4d7c0f")
_INK, _QUIET = "#1f2933", "#616e7c"


def draw(found: Forecast, path: Path, *, title: str, lower_is_better: bool) -> None:
    """Write the picture (Raises UsageError: the file cannot be written)."""
    figure = Figure(figsize=(10.0, 6.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    sign = 1 if lower_is_better else -1
    recommended = found.recommended
    for outlook, colour in zip(found.outlooks, _COLOURS, strict=False):
        mean, error = sign * outlook.expected, outlook.uncertainty
        name = "1 (greedy)" if outlook.population_size == GREEDY else str(outlook.population_size)
        chosen = outlook is recommended
        label = f"{name}, recommended" if chosen else name
        axes.plot(found.hours, mean, color=colour, linewidth=2.6 if chosen else 1.5, label=label, zorder=3 + chosen)
        axes.fill_between(found.hours, mean - error, mean + error, color=colour, alpha=0.18, linewidth=0)
    axes.axhline(sign * found.start, color=_QUIET, linewidth=0.8, linestyle=":")
    axes.annotate(
        "first variant", (found.hours[-1], sign * found.start), ha="right", va="bottom", color=_QUIET, fontsize=9
    )
    axes.set_xlim(0, found.hours[-1])
    axes.set_xlabel("hours", color=_INK)
    axes.set_ylabel(
        f"expected true score of the best ({'lower' if lower_is_better else 'higher'} is better)", color=_INK
    )
    axes.set_title(title, loc="left", color=_INK, fontsize=13, fontweight="bold")
    axes.legend(title="population size", frameon=False, loc="upper right" if lower_is_better else "lower right")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.8)
    figure.supxlabel(
        f"mean and its 95 % interval over {found.searches} simulated searches of each size", color=_QUIET, fontsize=9
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": "autoresearch-ray"})
    try:
        path.write_bytes(buffer.getvalue())
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}): name another file with --out.") from error
