"""`explore`, `report`, `champion` and `import`: a run's web page, files to take along, and a run from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from autoresearch_ray.cli.output import console, errors
from autoresearch_ray.lineage import query

RunName = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="A run's name, folder or URI; default: the newest.")
]
Storage = Annotated[Path, typer.Option("--storage", help="The folder that holds the runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
RUNS = Path("runs")


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command("explore")(explore)


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

    folder = query.find_run(storage, run)
    board = Board(folder)
    for sentence in board.lineage.tables.damage:
        errors.print(f"warning: {sentence}", markup=False)

    def ready(place: serve.Place) -> None:
        console.print(Text(f"{folder.name}: {place.address}   (Ctrl-C ends)"), soft_wrap=True)

    serve.serve(board, host, port, token, ready)
