"""Draws a snapshot of a run: as a panel that is redrawn, or as plain lines where there is no terminal.

Owns layout and words. Does not own the values (snapshot.py) or the printing (cli).
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from autoresearch_ray.explore import text
from autoresearch_ray.explore.snapshot import Activity, Score, Snapshot, gain_error
from autoresearch_ray.explore.text import plain
from autoresearch_ray.variant import Status

if TYPE_CHECKING:  # the search takes a second to import, and these only look at it
    from autoresearch_ray.evolution.driver import Driver
    from autoresearch_ray.evolution.flight import Ended

_MOST_ROWS = 16
_PHASES = {"queued": "waiting for a slot", "starting": "starting", "training": "training", "scoring": "scoring"}


def panel(snapshot: Snapshot) -> RenderableType:
    """Return the live view: progress, best against the seed, and what each slot is doing."""
    body = Group(_summary(snapshot), Text(), _slots(snapshot))
    return Panel(body, title=f"autoresearch-ray  {plain(snapshot.run)}", subtitle=snapshot.state, padding=(0, 1))


def _summary(snapshot: Snapshot) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True, min_width=11)
    table.add_column(overflow="fold")
    table.add_row("experiments", _experiments(snapshot))
    table.add_row("births", _births(snapshot))
    table.add_row("seed", score_text(snapshot.seed, snapshot.metric))
    if snapshot.champion is not None:
        table.add_row("champion", _against_seed(snapshot, snapshot.champion, "confirmed on fresh seeds"))
    best, champion = snapshot.best, snapshot.champion
    if best is None or champion is None or best.variant_id != champion.variant_id:
        table.add_row("best guess", _against_seed(snapshot, best, "not confirmed"))
        if best is not None and snapshot.seed is not None and best.variant_id != snapshot.seed.variant_id:
            table.add_row("", Text(plain(best.hypothesis), style="italic"))
    if snapshot.challenging is not None and snapshot.state in ("running", "draining"):
        table.add_row("", Text(f"{snapshot.challenging[:7]} is trained on fresh seeds, beside who it challenges"))
    table.add_row("time", _time(snapshot))
    if snapshot.usd:
        cap = f" of {snapshot.max_usd:.2f}" if snapshot.max_usd is not None else ""
        table.add_row("spent", Text(f"${snapshot.usd:.2f}{cap}"))
    return table


def _against_seed(snapshot: Snapshot, score: Score | None, standing: str) -> Text:
    """Return a score, and how it differs from the seed's, with its error and how sure it is."""
    shown = score_text(score, snapshot.metric)
    if score is None or snapshot.seed is None or score.variant_id == snapshot.seed.variant_id:
        return shown
    better = snapshot.seed.mean - score.mean if snapshot.lower_is_better else score.mean - snapshot.seed.mean
    error = gain_error(score, snapshot.seed)
    change = text.signed(better, lower=snapshot.lower_is_better) + ("" if error is None else f" ± {error:.4f}")
    return shown.append(f"  {change} against the seed, {standing}")


def _experiments(snapshot: Snapshot) -> RenderableType:
    if snapshot.max_experiments is None:
        return Text(str(snapshot.experiments))
    grid = Table.grid(padding=(0, 1))
    grid.add_row(
        Text(f"{snapshot.experiments} of {snapshot.max_experiments}"),
        ProgressBar(total=snapshot.max_experiments, completed=snapshot.experiments, width=24),
    )
    return grid


def _births(snapshot: Snapshot) -> Text:
    ends = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in sorted(snapshot.ends.items()))
    population = f"population {snapshot.population_size} on {_count(snapshot.islands, 'island')}"
    return Text(f"{snapshot.births} ({ends or 'none ended yet'}); {population}")


def _time(snapshot: Snapshot) -> Text:
    elapsed = duration(snapshot.now - snapshot.started_at)
    if snapshot.ends_at is None or snapshot.state not in ("running", "draining"):
        return Text(elapsed)
    left = max(0.0, snapshot.ends_at - snapshot.now)
    end = datetime.fromtimestamp(snapshot.ends_at).strftime("%H:%M")
    return Text(f"{elapsed}, about {duration(left)} left (ends {end})")


def _slots(snapshot: Snapshot) -> RenderableType:
    table = Table(box=None, padding=(0, 1), show_header=False, pad_edge=False, expand=True)
    for style, least in (("bold", 3), ("cyan", 7), ("", 13), ("dim", 10)):
        table.add_column(style=style, no_wrap=True, overflow="ellipsis", min_width=least)
    table.add_column(overflow="ellipsis", no_wrap=True, ratio=1)
    shown = [activity for activity in snapshot.activities if activity.phase != "queued"]
    for activity in shown[:_MOST_ROWS]:
        table.add_row(
            activity.place,
            activity.variant_id[:7],
            _doing(activity),
            activity.operator,
            Text(plain(activity.hypothesis)),
        )
    if len(shown) > _MOST_ROWS:
        table.add_row("", "", f"and {len(shown) - _MOST_ROWS} more", "", "")
    return table if shown else Text("no slot is busy", style="dim")


def _doing(activity: Activity) -> str:
    words = _PHASES.get(activity.phase, activity.phase)
    return f"{words} {activity.progress:>4.0%}" if activity.phase == "training" else words


def score_text(score: Score | None, metric: str) -> Text:
    """Return a score with its standard error, count and variant, as it is shown everywhere."""
    if score is None:
        return Text("not scored yet", style="dim")
    runs = _count(score.count, "training")
    error = "" if score.error is None else f" ± {score.error:.4f}"
    return Text(f"{score.mean:.4f}{error} {text.unit(metric)} ({score.variant_id[:7]}, {runs})")


def line(driver: Driver, ended: Ended) -> str:
    """Return one plain line about a birth or replicate that ended."""
    limit = driver.config.max_experiments
    count = f"{driver.ledger.spent.experiments}/{limit}" if limit else str(driver.ledger.spent.experiments)
    clock = datetime.fromtimestamp(driver.cluster.now()).strftime("%H:%M:%S")
    head = f"{clock}  {count:>7}  {ended.variant.variant_id[:7]}  {ended.variant.birth.operator.value:<10}"
    if ended.status is Status.COMPLETED and ended.result is not None and ended.result.val_bpb is not None:
        sigma = driver.state.noise.estimate().sigma
        what = f"{ended.result.val_bpb:.4f} ± {sigma:.4f}{_change(driver, ended)}"
    else:
        what = f"{ended.status.value.replace('_', ' ')}: {plain(ended.reason)}"
    flag = f"  ({plain(ended.result.claim_flag)})" if ended.result is not None and ended.result.claim_flag else ""
    return f"{head}  {what}{flag}  {plain(ended.variant.hypothesis)}".rstrip()


def _change(driver: Driver, ended: Ended) -> str:
    number = ended.variant.birth.number
    score = ended.result.val_bpb if ended.result else None
    scores = driver.state.best_parent(number)
    best = driver.state.best is not None and driver.state.best.number == number
    mark = " best guess" if best else ""
    if score is None or scores is None:
        return mark
    parent = driver.state.turn(sum(scores) / len(scores))
    error = driver.state.noise.estimate().sigma * math.sqrt(1 + 1 / len(scores))
    return f" ({score - parent:+.4f} ± {error:.4f}){mark}"


def duration(seconds: float) -> str:
    """Return a duration as a person says it: `45 s`, `7 min`, `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
