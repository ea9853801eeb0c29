"""`explore`, `report`, `champion` and `import`: a run's web page, files to take along, and a run from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from autoresearch_ray.cli.output import console, errors, show
from autoresearch_ray.errors import UsageError
from autoresearch_ray.lineage import finding
from autoresearch_ray.lineage.mirror import Mirror, is_uri
from autoresearch_ray.lineage.query import Lineage

RunName = Annotated[str | None, typer.Argument(metavar="RUN", help="A run's name, folder or URI; default: the newest.")]
Storage = Annotated[Path, typer.Option("--storage", help="The folder that holds the runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
NewFolder = Annotated[Path, typer.Option("--out", "-o", help="A new or empty folder.")]
RUNS = Path("runs")
REMOTE_SECONDS = 10.0
"""Between two looks at a run that lies elsewhere."""


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command("explore")(explore)
    app.command("report")(report)
    app.command("champion")(champion)
    app.command("import")(import_run)


def find_folder(storage: Path, run: str | None) -> Path:
    """Return a run's folder, or that of a copy if it lies elsewhere (Raises RunError: there is none)."""
    return Mirror(run).folder if run is not None and is_uri(run) else finding.find_run(storage, run)


def open_lineage(storage: Path, run: str | None, *, glance: bool = False) -> Lineage:
    """Open a run, or only glance at it, and warn of what is damaged in it (Raises RunError: there is none)."""
    folder = find_folder(storage, run)
    lineage = Lineage.glance(folder) if glance else Lineage.open(folder)
    for sentence in lineage.tables.damage:
        errors.print(f"warning: {sentence}", markup=False)
    return lineage


def explore(
    run: RunName = None,
    host: Annotated[str, typer.Option(help="The address to bind to; all but loopback need a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8600,
    token: Annotated[str | None, typer.Option(help="What visitors must show; made up for another host.")] = None,
    storage: Storage = RUNS,
) -> None:
    """Show a run as a web page, live or finished, until Ctrl-C."""
    from autoresearch_ray.explore.web import serve  # a fifth of a second
    from autoresearch_ray.explore.web.board import Board

    if token is not None and not token.strip():
        raise UsageError("--token is empty: name one, or leave it out.")
    if run is not None and is_uri(run):
        mirror = Mirror(run)
        board = Board(mirror.folder, mirror.refresh, REMOTE_SECONDS)
    else:
        board = Board(finding.find_run(storage, run))
    for sentence in board.lineage.tables.damage:
        errors.print(f"warning: {sentence}", markup=False)

    def ready(place: serve.Place) -> None:
        console.print(Text(f"{board.lineage.tables.run}: {place.address}   (Ctrl-C ends)"), soft_wrap=True)

    serve.serve(board, host, port, token, ready)


def report(
    run: RunName = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A folder; default: the run's own.")] = None,
    storage: Storage = RUNS,
    as_json: Json = False,
) -> None:
    """Write progress.png, and report.html: one file to mail, without scripts."""
    from autoresearch_ray.explore import page
    from autoresearch_ray.explore import report as pictures

    if out is None and run is not None and is_uri(run):
        raise UsageError("nothing is written to where a run lies elsewhere: name a folder with --out.")
    lineage = open_lineage(storage, run)
    folder = out or lineage.tables.folder
    written = {"progress.png": pictures.draw(pictures.gather(lineage)), "report.html": page.page(lineage).encode()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in written.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror or error}).") from error
    paths = [folder / name for name in written]
    show(Text(f"Wrote {paths[0]} and {paths[1]}"), paths, as_json)


def champion(out: NewFolder, run: RunName = None, storage: Storage = RUNS, as_json: Json = False) -> None:
    """Take the champion home: train.py, one patch, one commit per idea that survived, and the evidence."""
    from autoresearch_ray.explore import champion as taking

    taken = taking.take(open_lineage(storage, run), out)
    words = f"Wrote {taken.variant_id} to {out}: {taking.PROGRAM}, {taking.PATCH}, {taking.EVIDENCE}, "
    words += f"{taking.REPOSITORY} with {taken.commits} commits"
    if not taken.confirmed:
        errors.print("warning: nothing is confirmed; this is the best guess, and may be luck", markup=False)
    show(Text(words), taken, as_json)


def import_run(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A checkout of autoresearch with its results.tsv.")],
    branch: Annotated[
        str | None, typer.Option(help="Its branch of kept commits; default: what is checked out.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="The run's name; default: the end of the branch.")] = None,
    file: Annotated[str, typer.Option("--file", help="The evolved file in the checkout.")] = "train.py",
    storage: Storage = RUNS,
    as_json: Json = False,
) -> None:
    """Turn a run of karpathy/autoresearch into a lineage, marked unverified."""
    from autoresearch_ray.lineage import autoresearch

    run = name or autoresearch.default_name(folder, branch)
    imported = autoresearch.import_run(folder, branch, file, storage / run)
    words = f"Imported {imported.births} births as {imported.run}, {imported.kept} kept"
    if imported.without_source:
        words += f"; the programs of {imported.without_source} are not in the repository any more"
    show(Text(f"{words}. Look at it with arr lineage tree {imported.run}"), imported, as_json)
