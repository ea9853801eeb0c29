"""One variant, two variants, and the way from the seed to one, in a terminal.

Each question has a function that answers in plain JSON values and one that draws the answer. Does not own descent or
scores (lineage/query.py).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from autoresearch_ray.explore import text
from autoresearch_ray.explore.tree import node, nodes
from autoresearch_ray.lineage.query import Lineage, Score
from autoresearch_ray.lineage.schema import Row, birth_of
from autoresearch_ray.operators import transcripts
from autoresearch_ray.variant import Status

_ROOM_BESIDE = 104
"""Columns of a terminal from which on a step's figures leave room for words beside them."""
_ROOM_FOR_ALL = 116
"""Columns of a terminal from which on all that is said of a training fits on a line."""
LOG_LINES = 12
"""Lines of a log tail that `draw_variant` shows unless it is asked for all."""


# -------------------------------------------------------------------------------------------------------------- show


def variant(lineage: Lineage, position: int, *, source: bool = False, prompt: bool = False) -> dict[str, Any]:
    """Return everything that is known about a variant, as plain values.

    Args:
        lineage: the run.
        position: the variant's.
        source: with its source text.
        prompt: with what language models were asked for it and what they answered.
    """
    row = lineage.row(position)
    children = lineage.children(position)
    experiments = [plain_row(experiment) for experiment in lineage.experiments(position)]
    shown = {
        **plain_row(row),
        **node(lineage, position),
        **_against_seed(lineage, position),
        "metric": lineage.metric,
        "confirmed": row["variant_id"] in set(lineage.tables.champions["variant_id"].to_pylist()),
        "parents": [_relative(lineage, int(parent), position) for parent in lineage.parents[position] if parent >= 0],
        "children": [child["variant_id"] for child in lineage.rows(children, ["variant_id"])],
        "experiments": experiments,
        "descendants": len(lineage.descendants(position)) if children else 0,
    }
    if prompt:
        shown["conversation"] = conversation(lineage, position)
    return {**shown, "source": lineage.source(position)} if source else shown


def conversation(lineage: Lineage, position: int) -> list[dict[str, str]]:
    """Return what was asked for a birth and what was answered, turn by turn; empty where nothing was kept."""
    turns = []
    for exchange in transcripts.of_variant(lineage.tables.folder, birth_of(lineage.row(position))):
        turns += [{"role": f"{exchange.purpose}: {turn.role}", "content": turn.content} for turn in exchange.messages]
        failed = "".join(f"(failed: {attempt})\n" for attempt in exchange.attempts)
        reply = f"(no reply: {exchange.failure})" if exchange.reply is None else exchange.reply
        turns.append({"role": f"{exchange.model} answers", "content": failed + reply})
    return turns


def _relative(lineage: Lineage, parent: int, position: int) -> dict[str, Any]:
    gain, error = lineage.gain(position, parent), lineage.gain_error(position, parent)
    return {**node(lineage, parent), "gain": gain, "gain_error": error}


def _against_seed(lineage: Lineage, position: int) -> dict[str, float | None]:
    seed = lineage.seed
    if seed is None or seed == position:
        return {"gain_against_seed": None, "gain_against_seed_error": None}
    gain, error = lineage.gain(position, seed), lineage.gain_error(position, seed)
    return {"gain_against_seed": gain, "gain_against_seed_error": error}


def plain_row(row: Row) -> dict[str, Any]:
    """Return a row with its timestamps as ISO 8601 text."""
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in row.items()}


def draw_variant(shown: dict[str, Any], *, whole_log: bool = False) -> RenderableType:
    """Draw what `variant` returned."""
    head = Text(f"{shown['variant_id']}", style="bold")
    head.append(f"  {text.status(shown['status'])}", style=text.STYLES.get(shown["status"], "") or "green")
    if shown["champion"]:
        head.append("  ★ champion", style="bold green")
    parts: list[RenderableType] = [head, Text(text.plain(shown["hypothesis"]), style="italic"), _facts(shown)]
    if shown["experiments"]:
        parts += [
            Rule("experiments", style="dim"),
            _Experiments(shown["experiments"], shown["metric"]),
            *_remarks(shown["experiments"]),
        ]
        log = next((e["log_tail"] for e in reversed(shown["experiments"]) if e["log_tail"]), "")
        if log:
            parts += [Rule("end of the log", style="dim"), _log(log, whole_log)]
    if "conversation" in shown:
        parts += _conversation(shown["conversation"])
    if "source" in shown:
        parts += [Rule("train.py", style="dim"), Text(text.block(shown["source"]))]
    return Group(*parts)


def _conversation(turns: list[dict[str, str]]) -> list[RenderableType]:
    if not turns:
        return [Rule("prompt and reply", style="dim"), Text("nothing was kept of what was asked for it", style="dim")]
    drawn: list[RenderableType] = []
    for turn in turns:
        drawn += [Rule(Text(text.plain(turn["role"]), style="dim"), style="dim"), Text(text.block(turn["content"]))]
    return drawn


def _facts(shown: dict[str, Any]) -> Table:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")

    def say(name: str, value: Text | str) -> None:
        facts.add_row(Text(name), value if isinstance(value, Text) else Text(value))

    if shown["reason"]:
        say("reason", text.plain(shown["reason"]))
    say(text.plain(shown["metric"]), f"{_score(shown, digits=6)}{_standing(shown)}")
    if shown["gain_against_seed"] is not None:
        say("against the seed", _seed_gain(shown))
    for parent in shown["parents"]:
        line = Text(f"{text.short(parent['variant_id'])} {_score(parent)}  change ")
        line.append_text(text.gain_and_error(parent["gain"], parent["gain_error"], lower=parent["lower_is_better"]))
        say("parent", line.append(f"  {text.plain(parent['hypothesis'])}", style="dim"))
    when = shown["created_at"][:19].replace("T", " ")
    say("born", f"birth {shown['number']}, generation {shown['generation']}, island {shown['island']}, {when} UTC")
    say("operator", _operator(shown))
    if shown["carried_from"]:
        say("carried from", text.plain(shown["carried_from"]))
    if shown["children"]:
        listed = " ".join(map(text.short, shown["children"][:6]))
        more = f" and {len(shown['children']) - 6} more" if len(shown["children"]) > 6 else ""
        say("children", f"{listed}{more}; {shown['descendants']} descendant{'' if shown['descendants'] == 1 else 's'}")
    say("class", text.plain(shown["class"]))
    return facts


def _standing(shown: dict[str, Any]) -> str:
    """Return in words whether a score was confirmed on fresh seeds; nothing where there is none to confirm."""
    if shown["val_bpb"] is None or shown["status"] != Status.COMPLETED.value or not shown["parents"]:
        return ""
    return "  champion" if shown["champion"] else "  was champion" if shown["confirmed"] else "  unconfirmed"


def _seed_gain(shown: dict[str, Any], digits: int = 4) -> Text:
    gain, error = shown["gain_against_seed"], shown["gain_against_seed_error"]
    return text.gain_and_error(gain, error, digits, lower=shown["lower_is_better"])


def _operator(shown: dict[str, Any]) -> str:
    words = str(shown["operator"])
    if shown["model"]:
        words += f" by {text.plain(shown['model'])}"
    if shown["llm_tokens_in"] or shown["llm_tokens_out"]:
        words += f", {text.quantity(shown['llm_tokens_in'])} tokens in, {text.quantity(shown['llm_tokens_out'])} out"
        words += ", price not known" if shown["llm_usd"] is None else f", ${shown['llm_usd']:.4f}"
    if shown["step_size"] is not None:
        words += f", step size {shown['step_size']:.3g}"
    return words


def _score(shown: dict[str, Any], digits: int = 4) -> str:
    if shown["val_bpb"] is None:
        return f"none ({text.status(shown['status'])})"
    return text.score(Score(shown["val_bpb"], shown["replicates"], shown["standard_error"]), digits)


class _Experiments:
    """One line a replicate: its score and where its time went; in two tables where one would cut figures off."""

    def __init__(self, experiments: list[dict[str, Any]], metric: str) -> None:
        self._experiments = experiments
        self._metric = text.plain(metric)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        scores, times = ("val_bpb", "tokens", "params", "memory"), ("start", "train", "score", "wall", "where")
        parts = [(*scores, *times)] if options.max_width >= _ROOM_FOR_ALL else [scores, times]
        for names in parts:
            table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
            for name in ("seed", *names):
                left = name == "where"
                head = Text(self._metric if name == "val_bpb" else name)
                table.add_column(head, justify="left" if left else "right", no_wrap=True, overflow="ellipsis")
            for each in self._experiments:
                said = _said(each)
                table.add_row(*(said[name] for name in ("seed", *names)))
            yield table


def _said(each: dict[str, Any]) -> dict[str, Text]:
    """Return what is said of an experiment, by column."""
    memory, where = each["peak_memory_bytes"], text.plain(each["gpu"] or each["node"] or each["hardware"])
    score = text.status(each["status"]) if each["val_bpb"] is None else f"{each['val_bpb']:.6f}"
    phases = {"start": "startup", "train": "train", "score": "scoring", "wall": "wall"}
    return {
        "seed": Text("-" if each["seed"] is None else str(each["seed"])),
        "val_bpb": Text(score, text.STYLES.get(each["status"], "")),
        **{name: Text(text.seconds(each[f"{phase}_seconds"])) for name, phase in phases.items()},
        "tokens": Text(text.quantity(each["tokens"])),
        "params": Text(text.quantity(each["parameters"])),
        "memory": Text("-" if memory is None else f"{memory / 2**30:.2f} GiB"),
        "where": Text(where if each["verified"] else f"{where} (unverified)".strip()),
    }


def _remarks(experiments: list[dict[str, Any]]) -> Iterator[Text]:
    """Yield what else is to be said of replicates: their holdout scores, and claims that are not borne out."""
    for each in experiments:
        if each["holdout_bpb"] is not None:
            yield Text(f"seed {each['seed']}: {each['holdout_bpb']:.6f} on the holdout rows, never selected on")
        if each.get("claim_flag"):
            yield Text(f"seed {each['seed']}: {text.plain(each['claim_flag'])}", style="yellow")


def _log(log: str, whole: bool) -> Text:
    lines = text.block(log).rstrip("\n").split("\n")
    cut = 0 if whole else max(0, len(lines) - LOG_LINES)
    return Text("\n".join([f"... {cut} lines before"] * bool(cut) + lines[cut:]), style="dim")


# -------------------------------------------------------------------------------------------------------------- diff


def difference(lineage: Lineage, before: int, after: int) -> dict[str, Any]:
    """Return the unified difference between two variants' sources, as plain values."""
    old, new = lineage.source(before), lineage.source(after)
    first, second = (f"{text.short(lineage.ids[position])}/train.py" for position in (before, after))
    return {
        "before": node(lineage, before),
        "after": node(lineage, after),
        "gain": lineage.gain(after, before),
        "gain_error": lineage.gain_error(after, before),
        "diff": list(difflib.unified_diff(old.splitlines(), new.splitlines(), first, second, lineterm="")),
    }


def draw_difference(shown: dict[str, Any]) -> RenderableType:
    """Draw what `difference` returned."""
    head = Text(f"{_score(shown['before'])} -> {_score(shown['after'])}  ")
    head.append_text(text.gain_and_error(shown["gain"], shown["gain_error"], lower=shown["after"]["lower_is_better"]))
    lines = shown["diff"] or ["the sources are the same"]
    return Group(head, *(_diff_line(entry) for entry in lines))


def _diff_line(entry: str) -> Text:
    styles = {"+++": "bold", "---": "bold", "@@ ": "cyan"}
    style = styles.get(entry[:3]) or {"+": "green", "-": "red"}.get(entry[:1], "")
    return Text(text.block(entry), style=style)


# -------------------------------------------------------------------------------------------------------------- path


def path(lineage: Lineage, position: int) -> dict[str, Any]:
    """Return the way from the seed to a variant, along the better parent of each step, as plain values."""
    way = lineage.path(position)
    confirmed = set(lineage.tables.champions["variant_id"].to_pylist())
    return {
        "run": lineage.tables.run,
        "metric": lineage.metric,
        "steps": [
            {
                **entry,
                **_against_seed(lineage, place),
                "confirmed": entry["variant_id"] in confirmed,
            }
            for place, entry in zip(way, nodes(lineage, way), strict=True)
        ],
    }


def draw_path(shown: dict[str, Any]) -> RenderableType:
    """Draw what `path` returned."""
    marks = "★ champion  ◆ was champion, others unconfirmed  × second parent  ? may be luck"
    return Group(_Steps(shown["steps"], shown["metric"]), Text(marks, style="dim"))


class _Steps:
    """A line of figures a step; what changed stands beside them where there is room, else below."""

    def __init__(self, steps: list[dict[str, Any]], metric: str) -> None:
        self._steps = steps
        self._metric = metric

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = [("variant", 9), (_score_head(self._metric), 18), ("change ±", 16), ("so far ±", 16)]
        if options.max_width >= _ROOM_BESIDE:
            table = _table(*columns)
            table.add_column("what changed", overflow="fold", ratio=1)
            for step in self._steps:
                table.add_row(*_step(step), _change(step))
            yield table
            return
        widths = [width for _, width in columns]
        yield _aligned([Text(name, style="dim") for name, _ in columns], widths)
        for step in self._steps:
            yield _aligned(_step(step), widths)
            yield Padding(_change(step), (0, 0, 0, 4))


def _aligned(cells: list[Text], widths: list[int]) -> Text:
    """Return cells as one line; a table of its own for each of hundreds of steps would take half a second."""
    line = Text(no_wrap=True, overflow="ellipsis")
    for cell, width in zip(cells, widths, strict=True):
        cell.truncate(width, overflow="ellipsis", pad=True)
        line.append_text(cell).append(" ")
    return line


def _step(step: dict[str, Any]) -> list[Text]:
    mark = "★" if step["champion"] else "◆" if step["confirmed"] else " "
    return [
        Text(f"{mark} {text.short(step['variant_id'])}"),
        Text(_score(step)),
        text.gain_and_error(step["gain"], step["gain_error"], lower=step["lower_is_better"]),
        _seed_gain(step),
    ]


def _change(step: dict[str, Any]) -> Text:
    what = Text()
    if others := [parent for parent in step["parents"] if parent != step["parent"]]:
        what.append(f"×{text.short(others[0])} ", style="magenta")
    return what.append(text.plain(step["hypothesis"]))


def _score_head(metric: str) -> str:
    """Return what stands above scores; a long name is cut, not what is said of them."""
    name = text.plain(metric)
    return f"{name if len(name) <= 9 else name[:8] + '…'} ± (runs)"


def _table(*columns: tuple[str, int]) -> Table:
    """Return a table with columns of fixed widths; the one that is added last takes the rest."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for name, width in columns:
        table.add_column(name, width=width, no_wrap=True, overflow="ellipsis")
    return table


# -------------------------------------------------------------------------------------------------------------- best


def best(lineage: Lineage, count: int = 10) -> dict[str, Any]:
    """Return the variants with the lowest mean scores, as plain values."""
    confirmed = set(lineage.tables.champions["variant_id"].to_pylist())
    first = lineage.best(count)
    return {
        "run": lineage.tables.run,
        "metric": lineage.metric,
        "sigma": lineage.sigma,
        "best": [
            {
                **entry,
                **_against_seed(lineage, place),
                "confirmed": entry["variant_id"] in confirmed,
            }
            for place, entry in zip(first, nodes(lineage, first), strict=True)
        ],
    }


def draw_best(shown: dict[str, Any]) -> RenderableType:
    """Draw what `best` returned."""
    if not shown["best"]:
        return Text(f"{text.plain(shown['run'])}: nothing has been scored yet")
    table = _table(
        ("", 2), ("variant", 9), (_score_head(shown["metric"]), 18), ("against seed ±", 16), ("operator", 10)
    )
    table.add_column("what changed", ratio=1)
    for place, entry in enumerate(shown["best"], start=1):
        mark = "★" if entry["champion"] else "◆" if entry["confirmed"] else " "
        table.add_row(
            Text(str(place)),
            Text(f"{mark} {text.short(entry['variant_id'])}"),
            Text(_score(entry)),
            _seed_gain(entry),
            Text(entry["operator"], style="cyan"),
            Text(text.plain(entry["hypothesis"]), no_wrap=True, overflow="ellipsis"),
        )
    sigma = shown["sigma"]
    noise = "the noise is not known" if sigma is None else f"one training varies by ±{sigma:.4f}"
    return Group(table, Text(f"★ champion  ◆ was champion, others unconfirmed; {noise}", style="dim"))
