"""The commands and their options. Each one composes rooms and prints; none decides anything about the search."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from autoresearch_ray import __version__
from autoresearch_ray import config as configuration
from autoresearch_ray.cli import lineage as lineage_commands
from autoresearch_ray.cli.output import console, errors, show
from autoresearch_ray.errors import AutoresearchError
from autoresearch_ray.explore import live, snapshot
from autoresearch_ray.lineage import query

app = typer.Typer(
    name="autoresearch-ray",
    help="Evolve train.py on Ray: islands of variants, tournament selection, a trusted score and a full lineage.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(lineage_commands.app, name="lineage")

ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help="A YAML file; see configs/.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override a key.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
Storage = Annotated[Path, typer.Option("--storage", help="The folder that holds the runs.")]
RunName = Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run's name or folder; default: the newest.")]


@app.callback(invoke_without_command=True)
def _default(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        console.print(f"autoresearch-ray {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        status()


@app.command()
def prepare(config: ConfigFile = None, override: Overrides = None, as_json: Json = False) -> None:
    """Tokenize the corpus and pack it into rows, once; does nothing the second time."""
    from autoresearch_ray.training import preparation

    settings = configuration.load(config, override or ())
    folder, made = preparation.prepare(settings.seed_model / "prepare.py", settings.data)
    words = f"Prepared {folder}" if made else f"Already prepared: {folder}"
    show(Text(words), {"folder": folder, "made": made}, as_json)


@app.command()
def run(
    config: ConfigFile = None,
    override: Overrides = None,
    name: Annotated[str | None, typer.Option("--name", help="The run's name; default: the date, as nov24.")] = None,
    address: Annotated[str | None, typer.Option("--address", help="A Ray cluster: auto, or host:port.")] = None,
    as_json: Json = False,
) -> None:
    """Evolve the seed model until the budget is spent. Ctrl-C ends gently, twice at once."""
    from autoresearch_ray.cli import running

    extra = [f"{key}={value}" for key, value in (("name", name), ("address", address)) if value is not None]
    settings = configuration.load(config, [*(override or ()), *extra])
    code = running.run(settings, as_json)
    if code:
        raise typer.Exit(code)


@app.command()
def score(
    file: Annotated[Path, typer.Argument(help="A train.py.")],
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=1000, help="Trainings, each under a fresh seed.")] = 1,
    config: ConfigFile = None,
    override: Overrides = None,
    as_json: Json = False,
) -> None:
    """Train and score one train.py as a run would, without a run."""
    from autoresearch_ray.cli import scoring

    code = scoring.score(file, seeds, configuration.load(config, override or ()), as_json)
    if code:
        raise typer.Exit(code)


@app.command()
def status(name: RunName = None, storage: Storage = Path("runs"), as_json: Json = False) -> None:
    """Show how a run stands, live or finished."""
    folder = query.find_run(storage, name)
    taken = snapshot.read(folder)
    if taken.state in ("running", "draining") and not query.is_live(folder):
        taken = snapshot.interrupted(taken)
    show(live.panel(taken), taken, as_json)


def main() -> None:
    """Run the command line; every error raised on purpose becomes a sentence and its exit code."""
    try:
        app()
    except AutoresearchError as error:
        errors.print(Text(f"error: {error}", style="red"), soft_wrap=True)
        sys.exit(error.exit_code)
