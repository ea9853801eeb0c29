"""SQL over a lineage: one SELECT on a fresh, locked-down DuckDB over the run's tables.

Owns what may be asked and what the views hold. Does not own reading files (lineage/snapshot.py).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from autoresearch_ray.errors import UsageError
from autoresearch_ray.explore import text
from autoresearch_ray.lineage import snapshot
from autoresearch_ray.lineage.schema import SCHEMAS, TABLES, TableName

MEMORY = "800MB"
SHOWN_ROWS = 1000
"""Rows that are printed; `--json` gives all."""

CELL = 60
"""Characters of a value in a printed table."""

_FOLDED = 20
"""Characters from which on a value may be folded to fit a table on the screen."""

_LOCKS: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "memory_limit": MEMORY,
    "temp_directory": "",
}

_SCORES = """
CREATE VIEW scores AS
WITH single AS (
    SELECT variant_id, avg(val_bpb) AS val_bpb, count(*) AS trainings,
           coalesce(var_samp(val_bpb), 0) * (count(*) - 1) AS squares
    FROM experiments WHERE status = 'completed' AND val_bpb IS NOT NULL GROUP BY variant_id
), noise AS (
    SELECT sqrt(sum(squares) / nullif(sum(trainings - 1), 0)) AS sigma FROM single
)
SELECT variant_id, val_bpb, trainings, sigma / sqrt(trainings) AS standard_error FROM single, noise
"""
"""Mean score by variant, with the standard error that the noise pooled over replicates gives it."""


_QUESTION_AT_FAULT = (
    duckdb.ParserException,
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.PermissionException,
    duckdb.ConversionException,
)
"""Errors that no damaged file explains."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query gave."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    damage: tuple[str, ...] = ()
    """A sentence for each damaged file; the rest was asked."""


def ask(folder: Path, query: str) -> Answer:
    """Run one SELECT over the views `variants`, `experiments`, `champions`, `events` and `scores`.

    Nothing can be written, and neither files nor the network nor extensions can be reached from a query.

    Raises:
        UsageError: the query is not one SELECT, or DuckDB refuses it.
        RunError: the folder is not a run, or a newer engine wrote it.
    """
    statement = _only_select(query)
    found = snapshot.datasets(folder)
    with _connection(found.tables) as connection:
        try:
            return Answer(*_run(connection, statement), damage=found.damage)
        except duckdb.Error as error:
            if isinstance(error, _QUESTION_AT_FAULT) or not snapshot.damage(folder):
                raise UsageError(_sentence(error, statement)) from error
    whole = snapshot.read(folder, bulky=True)
    with _connection({table: getattr(whole, table) for table in TABLES}) as connection:
        try:
            return Answer(*_run(connection, statement), damage=whole.damage)
        except duckdb.Error as error:
            raise UsageError(_sentence(error, statement)) from error


def _only_select(query: str) -> str:
    """Return the query's one statement (Raises UsageError: it is something else)."""
    with duckdb.connect(config=_LOCKS) as parser:
        try:
            statements = parser.extract_statements(query)
        except duckdb.Error as error:
            raise UsageError(_sentence(error)) from error
    if len(statements) != 1:
        raise UsageError(f"the query has {len(statements)} statements: ask one SELECT at a time.")
    [statement] = statements
    if statement.type != duckdb.StatementType.SELECT:
        word = statement.type.name.replace("_", " ")
        raise UsageError(
            f"a lineage is read only and this is a {word} statement: ask with SELECT (or WITH ... SELECT)."
        )
    return str(statement.query)


@contextlib.contextmanager
def _connection(tables: Mapping[TableName, pa.Table | ds.Dataset]) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config=_LOCKS) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, table in tables.items():
            connection.register(name, table)
        connection.execute(_SCORES)
        connection.execute("SET lock_configuration = true")
        yield connection


def _run(connection: duckdb.DuckDBPyConnection, statement: str) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    result = connection.execute(statement)
    columns = tuple(str(column[0]) for column in result.description or ())
    return columns, result.fetchall()


def _sentence(error: Exception, query: str = "") -> str:
    """Return what DuckDB says, without its drawing of the query."""
    words = " ".join(str(error).split("\n\nLINE ")[0].split())[:500]
    if isinstance(error, duckdb.BinderException) and "Referenced column" in words:
        words = f"{words.split('Candidate bindings')[0].strip()} {_columns_of(query)}".strip()
    return f"the query cannot be answered: {words}"


def _columns_of(query: str) -> str:
    """Return which columns the tables have that a query names."""
    named = [table for table in TABLES if re.search(rf"\b{table}\b", query, re.IGNORECASE)]
    said = [f"{table} has {', '.join(SCHEMAS[table].names)}" for table in named]
    if re.search(r"\bscores\b", query, re.IGNORECASE) or "variants" in named:
        said.append("scores has variant_id, val_bpb, trainings, standard_error")
    return "; ".join(said)


def values(answer: Answer) -> list[dict[str, Any]]:
    """Return an answer as plain values, one mapping a row."""
    names = _distinct(answer.columns)
    return [dict(zip(names, map(_plain, row), strict=True)) for row in answer.rows]


def _distinct(columns: tuple[str, ...]) -> list[str]:
    """Return the columns' names, a second one of the same name with a number."""
    seen: dict[str, int] = {}
    names = []
    for name in columns:
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return names


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def draw(answer: Answer) -> RenderableType:
    """Draw an answer of at most SHOWN_ROWS rows: as a table, or row by row where a table would be too wide to read."""
    shown = answer.rows[:SHOWN_ROWS]
    counted = f"{len(answer.rows)} row{'' if len(answer.rows) == 1 else 's'}"
    if len(shown) < len(answer.rows):
        counted += f", the first {len(shown)} shown; --json gives all"
    return Group(_Rows(answer.columns, shown), Text(counted, style="dim"))


class _Rows:
    def __init__(self, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
        self._columns = [text.plain(name) for name in columns]
        self._rows = rows
        self._cells = [[_cell(value) for value in row] for row in rows]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = [
            max(min(cell_len(words), _FOLDED) for words in (name, *(row[place] for row in self._cells)))
            for place, name in enumerate(self._columns)
        ]
        too_wide = sum(widths) + 2 * (len(widths) - 1) > options.max_width
        yield self._one_by_one() if too_wide and len(widths) > 1 else self._table()

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for place, name in enumerate(self._columns):
            number = all(isinstance(row[place], (int, float, type(None))) for row in self._rows) and bool(self._rows)
            table.add_column(name, justify="right" if number else "left", overflow="fold")
        for cells in self._cells:
            table.add_row(*map(Text, cells))
        return table

    def _one_by_one(self) -> Table:
        """Draw a line for each value, and an empty one between rows."""
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for number, cells in enumerate(self._cells):
            if number:
                table.add_row()
            for name, words in zip(self._columns, cells, strict=True):
                table.add_row(name, Text(words))
        return table


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    words = text.plain(" ".join(map(str, value)) if isinstance(value, list) else str(value))
    return words if len(words) <= CELL else words[: CELL - 1] + "…"
