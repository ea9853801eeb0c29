"""The commands and their options. Each one composes rooms and prints; none decides anything about the search."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer
from rich.text import Text

from autoresearch_ray import __version__
from autoresearch_ray.cli import controls, exploring
from autoresearch_ray.cli import lineage as lineage_commands
from autoresearch_ray.cli.controls import Order
from autoresearch_ray.cli.output import console, errors, show
from autoresearch_ray.errors import AutoresearchError, UsageError, why
from autoresearch_ray.explore import live, snapshot
from autoresearch_ray.lineage import finding
from autoresearch_ray.lineage.mirror import is_uri
from autoresearch_ray.training import preflight

if TYPE_CHECKING:
    from autoresearch_ray.config import Config

app = typer.Typer(
    name="autoresearch-ray",
    help="Evolve train.py on Ray: islands of variants, tournament selection, a trusted score and a full lineage.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help="A YAML file; see configs/.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override a key, as population_size=8; again and again."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
Storage = Annotated[Path, typer.Option("--storage", help="The folder that holds the runs.")]
Address = Annotated[str | None, typer.Option("--address", help="A Ray cluster: auto, or host:port.")]
RunName = Annotated[str | None, typer.Argument(metavar="RUN", help="A run's name or folder; default: the newest.")]


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

    settings = _settings(config, override or ())
    folder, made = preparation.prepare(settings.seed_model / "prepare.py", settings.data)
    words = f"Prepared {folder}" if made else f"Already prepared: {folder}"
    show(Text(words), {"folder": folder, "made": made}, as_json)


@app.command()
def run(
    config: ConfigFile = None,
    override: Overrides = None,
    name: Annotated[str | None, typer.Option("--name", help="The run's name; default: the date, as nov24.")] = None,
    address: Address = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="A language model, as LiteLLM names it; again for more.")
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option("--from", metavar="RUN[:ID]", help="Carry another run on; with an ID start from that variant."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be spent at most.")] = False,
    as_json: Json = False,
) -> None:
    """Evolve the seed model until the budget is spent. Ctrl-C ends gently, twice at once."""
    from autoresearch_ray.cli import planning, starting

    direct: dict[str, Any] = {}
    direct |= {key: value for key, value in (("name", name), ("address", address)) if value is not None}
    direct |= {"llm.models": [{"name": each} for each in model]} if model else {}
    settings = _settings(config, override or (), direct)
    if origin is not None:
        direct |= starting.started_from(settings, origin)
        settings = _settings(config, override or (), direct)
    if dry_run:
        planned = planning.budget(settings)
        show(planning.table(planned), planned, as_json)
        return
    from autoresearch_ray.cli import running  # Ray takes half a second

    _exit(running.run(settings, as_json))


@app.command()
def resume(
    name: RunName = None,
    override: Overrides = None,
    address: Address = None,
    storage: Storage = Path("runs"),
    as_json: Json = False,
) -> None:
    """Take a run up where it stopped or was killed; limits are totals over all sittings."""
    from autoresearch_ray.cli import running

    _exit(running.resume(finding.find_run(storage, name), override or (), address, as_json))


@app.command()
def doctor(
    config: ConfigFile = None, override: Overrides = None, address: Address = None, as_json: Json = False
) -> None:
    """Say what a run would find on this machine, or on each node of a cluster, and which promises the sandbox keeps.

    Ends with 1 where a promise does not hold: there a run with `sandbox=required` would not start.
    """
    from autoresearch_ray.cli import diagnosis

    direct = {} if address is None else {"address": address}
    _exit(diagnosis.report(_settings(config, override or (), direct), as_json))


@app.command()
def stop(name: RunName = None, storage: Storage = Path("runs"), as_json: Json = False) -> None:
    """Let a live run end gently: what trains is finished, and `resume` takes it up again."""
    _order(storage, name, Order("stop"), "stopping", as_json)


@app.command()
def resize(
    size: Annotated[int, typer.Option("--population-size", min=1, help="Members over all islands.")],
    name: RunName = None,
    storage: Storage = Path("runs"),
    as_json: Json = False,
) -> None:
    """Let the population of a live run grow or shrink."""
    _order(storage, name, Order("resize", population_size=size), f"resizing to {size} members", as_json)


@app.command()
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A train.py.")],
    hypothesis: Annotated[str, typer.Option("--hypothesis", help="One line: what changed and why it should help.")],
    name: RunName = None,
    storage: Storage = Path("runs"),
    as_json: Json = False,
) -> None:
    """Put your own variant into a live run, as a child of the seed."""
    config = _settings(finding.find_run(storage, name) / "config.yaml")
    source = read_source(file, config)
    line = " ".join(hypothesis.split())
    if not line:
        raise UsageError("--hypothesis is empty: say in one line what changed and why it should help.")
    _order(storage, name, Order("add", source=source, hypothesis=line), f"adding {file}", as_json)


@app.command()
def score(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A train.py.")],
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=1000, help="Trainings, each under a fresh seed.")] = 1,
    holdout: Annotated[bool, typer.Option("--holdout", help="Score the holdout rows too.")] = False,
    config: ConfigFile = None,
    override: Overrides = None,
    as_json: Json = False,
) -> None:
    """Train and score one train.py as a run would, without a run."""
    from autoresearch_ray.cli import scoring

    settings = _settings(config, override or ())
    if holdout and settings.metric.kind == "reported":
        raise UsageError("--holdout needs metric=scored: a program that reports its own score has no holdout rows.")
    _exit(scoring.score(file, read_source(file, settings), seeds, settings, as_json, holdout))


@app.command()
def plan(
    gpus: Annotated[int, typer.Option("--gpus", help="Experiments at a time: one a GPU.")] = 1,
    hours: Annotated[float, typer.Option("--hours", help="Hours of wall-clock time.")] = 8.0,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes-per-experiment", help="Start-up and scoring included; default: RUN's, or 5.85."),
    ] = None,
    sizes: Annotated[str, typer.Option("--population-size", help="Sizes to compare; 1 always is.")] = "4,8,16,32",
    source: Annotated[str | None, typer.Option("--from", metavar="RUN", help="Calibrate from this run.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Where the picture goes.")] = Path("plan.png"),
    seconds: Annotated[float, typer.Option("--seconds", help="Time to simulate for, about.")] = 75.0,
    storage: Storage = Path("runs"),
    as_json: Json = False,
) -> None:
    """Simulate searches of several population sizes before you spend, and recommend one."""
    from autoresearch_ray.cli import plan as planner

    folder = None if source is None else finding.find_run(storage, source)
    planner.plan(planner.Asked(gpus, hours, minutes, sizes, seconds, out), folder, as_json)


@app.command()
def confirm(
    name: RunName = None,
    top: Annotated[int, typer.Option("--top", min=1, max=1000, help="How many of the best.")] = 5,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=1000, help="Trainings of each, under fresh seeds.")] = 5,
    address: Address = None,
    storage: Storage = Path("runs"),
    as_json: Json = False,
) -> None:
    """Train the best of a finished run on fresh seeds, beside its seed; with intervals and the holdout score."""
    from autoresearch_ray.cli import confirming

    _exit(confirming.carry_out(finding.find_run(storage, name), top, seeds, address, as_json))


@app.command()
def status(
    name: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run's name, folder or URI; default: the newest.")
    ] = None,
    storage: Storage = Path("runs"),
    as_json: Json = False,
) -> None:
    """Show how a run stands, live or finished; of one that lies elsewhere, what its driver said last."""
    elsewhere = name is not None and is_uri(name)
    folder = exploring.find_folder(storage, name)
    taken = snapshot.read(folder)
    if taken.state in ("running", "draining"):
        if elsewhere:
            errors.print("note: this is what its driver said last; from here one cannot tell whether it still runs")
        elif not finding.is_live(folder):
            taken = snapshot.interrupted(taken)
    show(live.panel(taken), taken, as_json)


exploring.register(app)
app.add_typer(lineage_commands.app, name="lineage")  # after the commands above, as help lists them


def _settings(file: Path | None, overrides: Sequence[str] = (), direct: Mapping[str, Any] | None = None) -> Config:
    """Read a configuration (Raises UsageError: something in it is wrong)."""
    from autoresearch_ray import config  # a quarter of a second that those who only look at a run need not wait

    return config.load(file, overrides, direct)


def read_source(file: Path, config: Config) -> str:
    """Read a program that a person names (Raises UsageError: it cannot be read, or cannot be trained)."""
    try:
        source = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read ({why(error)}).") from error
    inspect = preflight.inspector(config.evolved_file, scored=config.metric.kind == "scored")
    reason = inspect(source).refusal
    if reason:
        raise UsageError(f"{file} cannot be trained: {reason}.")
    return source


def _order(storage: Path, name: str | None, order: Order, words: str, as_json: bool) -> None:
    folder = finding.find_run(storage, name)
    controls.send(folder, order)
    show(Text(f"{folder.name}: {words}"), {"run": folder.name, "order": order.kind}, as_json)


def _exit(code: int) -> None:
    if code:
        raise typer.Exit(code)


def main() -> None:
    """Run the command line; every error raised on purpose becomes a sentence and its exit code."""
    try:
        code = typer.main.get_command(app).main(standalone_mode=False)
    except typer.Abort:
        sys.exit(130)
    except _Misused as error:
        _refuse(_sentence(error), 2)
    except AutoresearchError as error:
        _refuse(str(error), error.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


_Misused = cast(type[Exception], typer.BadParameter.__mro__[1])
"""What typer raises for any command line it cannot use; it exports the subclass only."""


def _sentence(error: Any) -> str:
    """Return what is wrong with a command line, and whose help says more; a command without a choice gets its help."""
    context = error.ctx
    if context is None:
        return str(error.format_message())
    if type(error).__name__ == "NoArgsIsHelpError":
        console.print(context.get_help(), markup=False)
        return f"name one of the commands of {context.command_path}."
    said = error.format_message().replace("Value error, ", "").rstrip(".")
    return f"{said}; {context.command_path} --help lists what there is."


def _refuse(sentence: str, code: int) -> NoReturn:
    errors.print(Text(f"error: {sentence}", style="red"), soft_wrap=True)
    sys.exit(code)
