"""`doctor`: what a run would find on this machine or on every node of a cluster, and what to do where something lacks.

Owns how it is asked and drawn. Does not own what is looked at (cluster/node.py) nor the promises (training/sandbox).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from autoresearch_ray.cli.output import show
from autoresearch_ray.cluster.node import Examination, Finding, Question, examine
from autoresearch_ray.cluster.trainer import trainer_of
from autoresearch_ray.config import Config
from autoresearch_ray.errors import DataError
from autoresearch_ray.explore.text import plain
from autoresearch_ray.training import preparation
from autoresearch_ray.training.confinement import Confinement, sandbox_of
from autoresearch_ray.training.data import open_data
from autoresearch_ray.training.sandbox.promises import Promise


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What `doctor` found."""

    sandbox: str
    """What the configuration asks for."""
    holds: bool
    """Whether every promise holds on every node."""
    nodes: tuple[Examination, ...]


def report(config: Config, as_json: bool) -> int:
    """Examine, print, and return the exit code: 1 where a promise does not hold.

    Raises:
        DataError: what `readable` names is not there, or a program's directory cannot be taken.
        ClusterError: the cluster does not answer.
    """
    question = _question(config)
    if config.address is None:
        nodes = [examine(question)]
    else:
        from autoresearch_ray.cluster.ray_nodes import examine_nodes

        nodes = examine_nodes(config.address, question)
    diagnosis = Diagnosis(config.sandbox, all(node.keeps_all for node in nodes), tuple(nodes))
    show(_render(diagnosis), diagnosis, as_json)
    return 0 if diagnosis.holds else 1


def _question(config: Config) -> Question:
    written = (config.storage.absolute(),) if config.address is None else ()
    if config.metric.kind == "reported":
        return Question(trainer_of(config).confinement, None, None, written=written)
    confinement = Confinement(sandbox_of(config), config.device)
    script = (config.seed_model / "prepare.py").resolve()
    try:
        folder = preparation.locate(script, config.data)
        return Question(confinement, folder, open_data(folder).data_hash, written=written)
    except DataError as error:
        return Question(confinement, script.parent, None, str(error), written)


def _render(diagnosis: Diagnosis) -> RenderableType:
    parts: list[RenderableType] = []
    for node in diagnosis.nodes:
        parts += [Text(plain(node.node), style="bold"), _findings(node.findings), *_sandbox(node.promises), Text()]
    return Group(*parts, _conclusion(diagnosis))


def _findings(findings: Sequence[Finding]) -> Table:
    table = _table()
    for finding in findings:
        name, says = Text(plain(finding.name), overflow="fold"), Text(plain(finding.says), overflow="fold")
        table.add_row(_mark(finding.good), name, says)
        if finding.advice:
            table.add_row("", "", Text(plain(finding.advice), style="yellow"))
    return table


def _sandbox(promises: Sequence[Promise]) -> Iterator[RenderableType]:
    if not promises:
        return
    kept = sum(promise.held for promise in promises)
    yield Text(f"\nSandbox: {kept} of {len(promises)} promises hold. A variant ...")
    table = _table()
    for promise in promises:
        walls = f" [{', '.join(promise.by)}]" if promise.by else ""
        table.add_row(_mark(promise.held), promise.name.replace("_", " "), Text(promise.says).append(walls, "dim"))
        if not promise.held:
            table.add_row("", "", Text(f"Not here: {plain(promise.why_not)}.", style="red"))
            if promise.remedy:
                table.add_row("", "", Text(f"To mend it: {plain(promise.remedy)}.", style="yellow"))
    yield table


def _table() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(width=1)
    table.add_column(max_width=24)
    table.add_column(overflow="fold")
    return table


def _mark(good: bool) -> Text:
    return Text("✓", style="green") if good else Text("✗", style="bold red")


def _conclusion(diagnosis: Diagnosis) -> Text:
    count, broken = len(diagnosis.nodes), sum(not node.keeps_all for node in diagnosis.nodes)
    lacking = any(not finding.good for node in diagnosis.nodes for finding in node.findings)
    more = " What is marked ✗ above needs your hand first." if lacking else ""
    if diagnosis.holds:
        where = "here" if count == 1 else f"on all {count} nodes"
        words = f"Every promise holds {where}: `sandbox: required` is possible."
        if diagnosis.sandbox == "off":
            words += " This configuration says `off`: its variants run without walls."
        return Text(words + more, style="yellow" if lacking else "green")
    where = "Here" if count == 1 else f"On {broken} of {count} nodes"
    words = f"{where} a run with `sandbox: required` does not start; `best_effort` goes on without what is missing."
    return Text(f"{words} This configuration says `{diagnosis.sandbox}`.{more}", style="bold red")
