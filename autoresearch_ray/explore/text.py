"""Text for the terminal: what variants and models wrote made harmless, scores and gains made short.

Everything shown goes through here as `rich.text.Text`, never as markup. Does not own layout (tree.py, variants.py).
"""

from __future__ import annotations

import re

from rich.text import Text

from autoresearch_ray.lineage.query import Score
from autoresearch_ray.variant import Status

_HOSTILE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb]"
)
"""Control characters (terminal escapes), and what hides or reorders text; tab and newline are handled apart."""

SHORT = 7
"""Digits of an id on the screen, as autoresearch shows commits."""

STYLES = {
    Status.COMPLETED.value: "",
    Status.CRASHED.value: "red",
    Status.TIMED_OUT.value: "red",
    Status.REJECTED.value: "yellow",
    Status.LOST.value: "magenta",
    Status.OPERATOR_FAILED.value: "yellow",
}


def block(text: str) -> str:
    """Return text without anything a terminal would obey; its lines stay lines."""
    return _HOSTILE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n").replace("\t", "    "))


def plain(text: str) -> str:
    """Return text as one harmless line."""
    return block(" ".join(text.split()))


def short(identity: str) -> str:
    """Return the beginning of an id."""
    return identity[:SHORT]


def status(word: str) -> str:
    """Return a status in plain words."""
    return word.replace("_", " ")


def number(value: float | None, digits: int = 4) -> str:
    """Return a score, or a dash for none."""
    return "-" if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 4, *, lower: bool = True) -> str:
    """Return a gain as the change of the score: where lower is better 0.01 is shown as -0.0100; a dash for none."""
    return "-" if value is None else f"{-value if lower else value:+.{digits}f}"


def score(value: Score | None, digits: int = 4) -> str:
    """Return a score with its standard error (where known) and the number of experiments, as `3.7412 ±0.0022 (3)`."""
    if value is None:
        return "-"
    error = "" if value.error is None else f" ±{value.error:.{digits}f}"
    return f"{value.mean:.{digits}f}{error} ({value.count})"


def gain_text(value: float | None, error: float | None = None, digits: int = 4, *, lower: bool = True) -> Text:
    """Return a gain: green when it is one by more than two of its standard errors, with a `?` when it may be luck."""
    if value is None or value <= 0:
        return Text(signed(value, digits, lower=lower), style="dim")
    told = error is not None and value > 2 * error
    return Text(f"{signed(value, digits, lower=lower)}{'' if told else '?'}", style="green" if told else "")


def gain_and_error(value: float | None, error: float | None, digits: int = 4, *, lower: bool = True) -> Text:
    """Return a gain with its standard error, where that is known."""
    told = gain_text(value, error, digits, lower=lower)
    return told if value is None or error is None else told.append(f" ±{error:.{digits}f}", style="dim")


def metric(name: str) -> str:
    """Return what a score is called on the screen."""
    return "validation bits per byte" if name == "val_bpb" else plain(name)


def unit(name: str) -> str:
    """Return what stands behind a score."""
    return "bits per byte" if name == "val_bpb" else plain(name)


def seconds(value: float | None) -> str:
    """Return a duration as `4.1 s`, `5:08 min`, `2:03 h` or `4,531 h`; a dash for none."""
    if value is None:
        return "-"
    if value >= 360_000:
        return f"{value / 3600:,.0f} h"
    if value < 100:
        return f"{value:.1f} s"
    unit, whole = ("min", round(value)) if value < 3600 else ("h", round(value / 60))
    return f"{whole // 60}:{whole % 60:02d} {unit}"


def quantity(value: int | None) -> str:
    """Return a count as `430 k` or `1.2 M`."""
    if value is None:
        return "-"
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return str(value)
