"""What a run came to, said at its end: the best variant and its change, how sure, how busy the slots were, what next.

Owns the words. Does not own the lineage it reads, nor the picture (report.py).
"""

from __future__ import annotations

import difflib
import math
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from autoresearch_ray.explore import snapshot as moments
from autoresearch_ray.explore.live import duration
from autoresearch_ray.explore.text import plain, unit
from autoresearch_ray.explore.text import score as scored
from autoresearch_ray.lineage.query import Lineage, Score
from autoresearch_ray.lineage.schema import Row
from autoresearch_ray.training.reported import ignores_seed

_DIFF_LINES = 40


@dataclass(frozen=True, slots=True)
class Step:
    """One variant on the way from the seed to the best."""

    variant_id: str
    operator: str
    hypothesis: str
    score: Score | None


@dataclass(frozen=True, slots=True)
class Champion:
    """The confirmed best, by its trainings on fresh seeds alone."""

    variant_id: str
    score: Score
    p_better: float
    """That it is better than whom it beat: the champion before it, or the seed."""
    gain: float | None
    """By how much it is better than the seed."""
    gain_error: float | None
    holdout: Score | None
    """On rows that nothing was chosen by."""
    seed_holdout: Score | None


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run came to. Scores are bits per byte, times seconds."""

    run: str
    folder: Path
    state: str
    seconds: float
    births: dict[str, int]
    """How births ended, by status."""
    experiments: int
    """Of this run itself, without those that another run left to it."""
    carried: int
    """Births that came from another run."""
    slots: int
    busy: float | None
    """Part of all slot time, from the first experiment's start to the last one's end, in which a slot was busy; of a
    run that was resumed, since then."""
    metric: str
    sigma: float | None
    """Seed noise pooled over replicates; None without any."""
    seeded: bool
    """False: the seed program scored exactly the same under several random seeds, so its noise cannot be known."""
    seed: Score | None
    best: Score | None
    best_id: str | None
    gain: float | None
    """How much better the best guess is than the seed, by what is believed of both."""
    gain_error: float | None
    """Its standard error."""
    champion: Champion | None
    """The confirmed best; None on a night without one."""
    detectable: float | None
    """The smallest true gain that the last challenge for the title would have found four times out of five."""
    path: tuple[Step, ...]
    """The way from the seed to the champion, or else to the best guess."""
    diff: str
    """Its whole change against the seed, as a unified diff."""


def of(folder: Path) -> Summary:
    """Sum up a run from its lineage and its live file (Raises RunError: the folder is not a run)."""
    lineage, moment = Lineage.open(folder), moments.read(folder)
    seed, best = lineage.seed, _best(lineage, moment)
    leader = lineage.champion if lineage.champion is not None else best
    path = lineage.path(leader) if leader is not None else []
    gained = moments.gain(moment) if best is not None and best != seed else None
    return Summary(
        run=lineage.tables.run,
        folder=folder,
        state=moment.state,
        seconds=moment.now - moment.started_at,
        births=_counts(lineage.statuses),
        experiments=lineage.trainings,
        carried=lineage.carried,
        slots=moment.slots,
        busy=busy_share(_last_sitting(lineage), moment.slots),
        metric=lineage.metric,
        sigma=lineage.sigma,
        seeded=seed is None or not ignores_seed(_scores_of(lineage, seed)),
        seed=_believed(moment.seed) or (lineage.score(seed) if seed is not None else None),
        best=_believed(moment.best) or (lineage.score(best) if best is not None else None),
        best_id=lineage.ids[best] if best is not None else None,
        gain=gained,
        gain_error=moments.gain_error(moment.best, moment.seed),
        champion=_champion(lineage, moment),
        detectable=moment.detectable,
        path=tuple(
            Step(lineage.ids[at], lineage.operators[at], lineage.hypotheses[at], lineage.score(at)) for at in path
        ),
        diff=_diff(lineage, seed, leader),
    )


def _best(lineage: Lineage, moment: moments.Snapshot) -> int | None:
    """Return whom the search takes for the best, after shrinkage; else the one with the best mean score."""
    if moment.best is not None and moment.best.variant_id in lineage.ids:
        return lineage.find(moment.best.variant_id)
    return next(iter(lineage.best(1)), None)


def _believed(score: moments.Score | None) -> Score | None:
    return None if score is None else Score(score.mean, score.count, score.error)


def _champion(lineage: Lineage, moment: moments.Snapshot) -> Champion | None:
    if lineage.champion is None:
        return None
    row: Row = lineage.tables.champions.slice(len(lineage.tables.champions) - 1, 1).to_pylist()[0]
    score = Score(row["posterior_mean"], row["trainings"] or 1, row["posterior_sd"])
    gain = error = None
    if moment.seed is not None:
        gain = (moment.seed.mean - score.mean) * (1 if moment.lower_is_better else -1)
        error = math.hypot(row["posterior_sd"], moment.seed.error or 0.0)
    seed = lineage.seed
    holdouts = [_holdout(lineage, at, row["posterior_sd"] * math.sqrt(score.count)) for at in (lineage.champion, seed)]
    return Champion(row["variant_id"], score, row["p_better"], gain, error, *holdouts)


def _holdout(lineage: Lineage, position: int | None, sigma: float) -> Score | None:
    rows = [] if position is None else lineage.experiments(position)
    values = [row["holdout_bpb"] for row in rows if row["holdout_bpb"] is not None]
    return Score(sum(values) / len(values), len(values), sigma / math.sqrt(len(values))) if values else None


def _last_sitting(lineage: Lineage) -> pa.Table:
    experiments, events = lineage.tables.experiments, lineage.tables.events
    starts = events.filter(pc.equal(events["kind"], "started"))["recorded_at"]
    return experiments.filter(pc.greater_equal(experiments["started_at"], starts[-1])) if len(starts) else experiments


def busy_share(experiments: pa.Table, slots: int) -> float | None:
    """Return the part of all slot time, from the first start to the last end, in which an experiment ran.

    Args:
        experiments: the table, with `started_at` and `ended_at`.
        slots: experiments that could run at one time.

    Returns:
        A number in [0, 1]; None without an experiment that took any time.
    """
    rows: list[Row] = experiments.select(["started_at", "ended_at"]).to_pylist()
    spans = [(row["started_at"], row["ended_at"]) for row in rows if row["started_at"] and row["ended_at"]]
    if not spans or slots < 1:
        return None
    whole = (max(end for _, end in spans) - min(start for start, _ in spans)).total_seconds()
    busy = sum((end - start).total_seconds() for start, end in spans)
    return min(1.0, busy / (slots * whole)) if whole > 0 else None


def render(summary: Summary) -> RenderableType:
    """Return the summary as it is printed at the end of a run."""
    parts: list[RenderableType] = [_facts(summary)]
    if summary.diff:
        lines = summary.diff.splitlines()
        shown = "\n".join(lines[:_DIFF_LINES])
        more = f"\n(+{len(lines) - _DIFF_LINES} more lines)" if len(lines) > _DIFF_LINES else ""
        parts += [Text(), Text("Its change against the seed", style="bold")]
        parts.append(Syntax(_clean_lines(shown) + more, "diff", theme="ansi_dark", background_color="default"))
    parts += [Text(), _next(summary)]
    return Panel(Group(*parts), title=f"{plain(summary.run)}: {summary.state}", padding=(0, 1))


def _facts(summary: Summary) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    births = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in sorted(summary.births.items()))
    busy = "" if summary.busy is None else f"; slots busy {summary.busy:.1%} of the time"
    table.add_row("took", f"{duration(summary.seconds)} on {summary.slots} slots{busy}")
    if not summary.births:
        return table
    carried = f", {summary.carried} of them carried over" if summary.carried else ""
    table.add_row("births", f"{sum(summary.births.values())} ({births}{carried}); {summary.experiments} experiments")
    table.add_row("seed", _score(summary.seed, summary.metric))
    if not summary.seeded:
        table.add_row("noise", "cannot be known: another random seed does not change the seed program's score")
    _add_champion(table, summary)
    champion = summary.champion
    if champion is None or champion.variant_id != summary.best_id:
        table.add_row("best guess", f"{_score(summary.best, summary.metric)}  {(summary.best_id or '')[:7]}")
        if summary.gain is not None:
            error = f" ± {summary.gain_error:.4f}" if summary.gain_error is not None else ""
            better = Text(f"unconfirmed: {summary.gain:.4f}{error} {unit(summary.metric)} better than the seed")
            table.add_row("", better)
        elif champion is None:
            table.add_row("gain", "nothing better than the seed was found")
    if len(summary.path) > 1:
        table.add_row("by way of", _way(summary))
    return table


def _add_champion(table: Table, summary: Summary) -> None:
    """Add the confirmed best, or what a night without one could have found."""
    champion = summary.champion
    if champion is None:
        found = "nothing was confirmed on fresh seeds"
        if summary.detectable is not None:
            found += f"; a true gain of {summary.detectable:.4f} would have been, four times out of five"
        table.add_row("champion", found)
        return
    table.add_row("champion", f"{_score(champion.score, summary.metric)}  {champion.variant_id[:7]}")
    if champion.gain is not None:
        gain = f"{champion.gain:.4f} ± {champion.gain_error or 0.0:.4f} {unit(summary.metric)} better than the seed"
        sure = f", confirmed on fresh seeds: P = {champion.p_better:.3f}"
        table.add_row("", Text(gain + sure, style="bold green"))
    if champion.holdout is not None:
        seed = "" if champion.seed_holdout is None else f"; the seed {_score(champion.seed_holdout, summary.metric)}"
        table.add_row("holdout", f"{_score(champion.holdout, summary.metric)}{seed}")


def _way(summary: Summary) -> Text:
    steps = [
        f"{step.variant_id[:7]} {scored(step.score):<18}  {step.operator}: {plain(step.hypothesis)}"
        for step in summary.path[1:]
    ]
    return Text("\n".join(steps))


def _next(summary: Summary) -> Text:
    leader = summary.champion.variant_id if summary.champion is not None else summary.best_id
    name, best = plain(summary.run), (leader or "")[:7]
    text = Text("Look further\n", style="bold")
    storage = "" if summary.folder.parent == Path("runs") else f" --storage {summary.folder.parent}"
    arr = _program()
    of_best = (
        (f"{arr} lineage path {best} {name}{storage}", "each step to the champion, or the best guess"),
        (f"{arr} lineage show {best} {name} --source{storage}", "everything about it"),
    )
    for command, what in (
        (f"{arr} lineage tree {name}{storage}", "who descends from whom"),
        *(of_best if best else ()),
        (f"{arr} confirm {name}{storage}", "the best five once more, on fresh seeds"),
        (f"{summary.folder}/progress.png", "a picture of every experiment"),
    ):
        text.append(f"  {command:<36}", style="cyan")
        text.append(f"  {what}\n", style="")
    text.right_crop(1)
    return text


def _program() -> str:
    """Return `arr` as it is typed here: by its path where the shell would not find it, as after `make run`."""
    beside = Path(sys.argv[0]).with_name("arr")
    return "arr" if shutil.which("arr") or not beside.is_file() else str(beside)


def _score(score: Score | None, metric: str) -> str:
    if score is None:
        return "not scored"
    error = "" if score.error is None else f" ± {score.error:.4f}"
    trainings = "1 training" if score.count == 1 else f"{score.count} trainings"
    return f"{score.mean:.4f}{error} {unit(metric)} ({trainings})"


def _counts(statuses: list[str]) -> dict[str, int]:
    return {item["values"]: item["counts"] for item in pc.value_counts(pa.array(statuses, pa.string())).to_pylist()}


def _scores_of(lineage: Lineage, position: int) -> list[float]:
    return [row["val_bpb"] for row in lineage.experiments(position) if row["val_bpb"] is not None]


def _diff(lineage: Lineage, seed: int | None, best: int | None) -> str:
    if seed is None or best is None or seed == best:
        return ""
    before, after = (lineage.source(at).splitlines(keepends=True) for at in (seed, best))
    return "".join(difflib.unified_diff(before, after, "seed/train.py", "best/train.py", n=1))


def _clean_lines(text: str) -> str:
    return "\n".join(line[:1] + line[1:].translate(_CONTROLS) for line in text.splitlines())


_CONTROLS = dict.fromkeys((*range(32), *range(127, 160)), " ") | {9: "    "}
