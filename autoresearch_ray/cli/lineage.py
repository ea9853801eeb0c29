"""`lineage`: the terminal views of a run, live or finished."""

from __future__ import annotations

import re
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from autoresearch_ray.cli.exploring import find_folder, open_lineage
from autoresearch_ray.cli.output import console, errors, show
from autoresearch_ray.errors import UsageError
from autoresearch_ray.explore import export, search, tree, variants
from autoresearch_ray.lineage import git_export
from autoresearch_ray.variant import Operator, Status

app = typer.Typer(
    help="Explore a run's lineage: tree, show, diff, path, best, search, sql, export.", no_args_is_help=True
)
export_app = typer.Typer(help="Write the lineage in another form.", no_args_is_help=True)
app.add_typer(export_app, name="export")

RunName = Annotated[str | None, typer.Argument(metavar="RUN", help="A run's name, folder or URI; default: the newest.")]
Identity = Annotated[str, typer.Argument(metavar="ID", help="An id, the beginning of one, or seed, best, champion.")]
Storage = Annotated[Path, typer.Option("--storage", help="The folder that holds the runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
RUNS = Path("runs")


class Table(str, Enum):
    """The tables of a lineage, as options name them."""

    VARIANTS = "variants"
    EXPERIMENTS = "experiments"
    CHAMPIONS = "champions"
    EVENTS = "events"


@app.command("tree")
def show_tree(
    run: RunName = None,
    island: Annotated[int | None, typer.Option(min=0, help="Only this island's births.")] = None,
    operator: Annotated[Operator | None, typer.Option(help="Only this operator's births.")] = None,
    status: Annotated[Status | None, typer.Option(help="Only births that ended so.")] = None,
    model: Annotated[str | None, typer.Option(help="Only births by this language model.")] = None,
    generation: Annotated[str | None, typer.Option(metavar="N or N-M", help="Only these generations.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Draw what led nowhere too.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Draw at most so many variants.")] = 200,
    storage: Storage = RUNS,
    as_json: Json = False,
) -> None:
    """Draw who descends from whom; what led nowhere is counted, the way to the best is marked."""
    between = _generations(generation) if generation else None
    filters = tree.Filters(island, operator and operator.value, status and status.value, between, model)
    shown = tree.phylogeny(open_lineage(storage, run, glance=True), filters, everything=everything, limit=limit)
    show(tree.draw(shown), shown, as_json)


@app.command("show")
def show_variant(
    identity: Identity,
    run: RunName = None,
    source: Annotated[bool, typer.Option("--source", help="With its train.py.")] = False,
    log: Annotated[bool, typer.Option("--log", help="With all that was kept of its log.")] = False,
    prompt: Annotated[bool, typer.Option("--prompt", help="With the very prompt and reply it came from.")] = False,
    storage: Storage = RUNS,
    as_json: Json = False,
) -> None:
    """Show everything about one variant: hypothesis, scores, parents, times, why it failed."""
    lineage = open_lineage(storage, run, glance=True)
    shown = variants.variant(lineage, lineage.find(identity), source=source, prompt=prompt)
    show(variants.draw_variant(shown, whole_log=log), shown, as_json)


@app.command("diff")
def show_difference(
    before: Identity, after: Identity, run: RunName = None, storage: Storage = RUNS, as_json: Json = False
) -> None:
    """Show how two variants' sources differ, and what it brought."""
    lineage = open_lineage(storage, run, glance=True)
    shown = variants.difference(lineage, lineage.find(before), lineage.find(after))
    show(variants.draw_difference(shown), shown, as_json)


@app.command("path")
def show_path(identity: Identity, run: RunName = None, storage: Storage = RUNS, as_json: Json = False) -> None:
    """Show the way from the seed to a variant: each change and what it brought."""
    lineage = open_lineage(storage, run, glance=True)
    shown = variants.path(lineage, lineage.find(identity))
    show(variants.draw_path(shown), shown, as_json)


@app.command("best")
def show_best(
    run: RunName = None,
    top: Annotated[int, typer.Option("--top", "-n", min=1, help="How many.")] = 10,
    storage: Storage = RUNS,
    as_json: Json = False,
) -> None:
    """List the variants with the best mean scores."""
    shown = variants.best(open_lineage(storage, run, glance=True), top)
    show(variants.draw_best(shown), shown, as_json)


@app.command("search")
def search_births(
    words: Annotated[list[str], typer.Argument(metavar="TEXT", help="Words in a hypothesis, a reason or a status.")],
    run: Annotated[str | None, typer.Option("--run", help="A run's name, folder or URI; default: the newest.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many.")] = 50,
    skip: Annotated[int, typer.Option(min=0, help="Leave out so many first: the next page.")] = 0,
    storage: Storage = RUNS,
    as_json: Json = False,
) -> None:
    """Find births by what was said of them, failed ones included."""
    shown = search.search(open_lineage(storage, run, glance=True), " ".join(words), limit=limit, skip=skip)
    if not shown["births"] and run is None and (storage / words[-1]).is_dir():
        errors.print(f"note: {words[-1]} was searched for; to search in that run, add --run {words[-1]}", markup=False)
    show(search.draw(shown), shown, as_json)


@app.command("sql")
def ask(
    select: Annotated[str, typer.Argument(metavar="SELECT", help="One SELECT; docs/lineage.md has the columns.")],
    run: RunName = None,
    storage: Storage = RUNS,
    as_json: Json = False,
) -> None:
    """Ask in SQL: variants, experiments, champions, events and scores; read only."""
    from autoresearch_ray.explore import sql  # DuckDB takes a third of a second

    answer = sql.ask(find_folder(storage, run), select)
    for sentence in answer.damage:
        errors.print(f"warning: {sentence}", markup=False)
    show(sql.draw(answer), sql.values(answer) if as_json else None, as_json)


@export_app.command("tsv")
def export_tsv(
    run: RunName = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A file; default: standard output.")] = None,
    storage: Storage = RUNS,
    as_json: Json = False,
) -> None:
    """Write autoresearch's results.tsv columns, then ours, one line a birth."""
    lines = list(export.tsv(open_lineage(storage, run)))
    if as_json:
        head, *rows = (line.split("\t") for line in lines)
        show("", [dict(zip(head, row, strict=True)) for row in rows], True)
    else:
        _write(lines, out, "births")


@export_app.command("csv")
def export_csv(
    run: RunName = None,
    table: Annotated[Table, typer.Option(help="Which of the lineage's tables.")] = Table.VARIANTS,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A file; default: standard output.")] = None,
    storage: Storage = RUNS,
    as_json: Json = False,
) -> None:
    """Write a table's columns, one line a row, without sources, curves and logs."""
    lineage = open_lineage(storage, run)
    if as_json:
        show("", getattr(lineage.tables, table.value).to_pylist(), True)
    else:
        _write(list(export.csv(lineage, table.value)), out, "rows")


@export_app.command("parquet")
def export_parquet(
    out: Annotated[Path, typer.Option("--out", "-o", help="A new or empty folder.")],
    run: RunName = None,
    storage: Storage = RUNS,
    as_json: Json = False,
) -> None:
    """Write one Parquet file a table, with every column."""
    written = export.parquet(find_folder(storage, run), out)
    words = ", ".join(f"{name} ({rows} rows)" for name, rows in written.items())
    show(Text(f"Wrote {words} to {out}"), {"out": out, "rows": written}, as_json)


@export_app.command("git")
def export_git(
    out: Annotated[Path, typer.Option("--out", "-o", help="A new or empty folder.")],
    run: RunName = None,
    storage: Storage = RUNS,
    as_json: Json = False,
) -> None:
    """Write a git repository: a commit a birth, crossovers as merges, branches seed, best and champion."""
    written = git_export.export(find_folder(storage, run), out)
    head = next((branch for branch in ("champion", "best", "seed") if branch in written.branches), None)
    hint = f": look at it with git -C {out} log --graph {head}" if head else ""
    show(Text(f"Wrote {written.commits} commits to {out}{hint}"), written, as_json)


def _write(lines: list[str], out: Path | None, what: str) -> None:
    """Print lines of which the first is a header, or write them to a file (Raises UsageError: it cannot be written)."""
    if out is None:
        sys.stdout.write("\n".join(lines) + "\n")
        return
    try:
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error.strerror or error}).") from error
    console.print(f"Wrote {len(lines) - 1} {what} to {out}", markup=False)


def _generations(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if match is None:
        raise UsageError(f"--generation {text}: expected a number or a range, as in 3 or 2-5.")
    first, last = int(match[1]), int(match[2] or match[1])
    return first, last
