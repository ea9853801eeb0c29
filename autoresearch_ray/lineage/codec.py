"""Rows on their way into the journal and back: checked against the schema, as one line of ASCII JSON.

Owns conversion of single values. Does not own the schemas (schema.py) or framing (journal.py).
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from enum import Enum
from typing import Any

import pyarrow as pa

from autoresearch_ray.lineage import schema
from autoresearch_ray.lineage.schema import SCHEMAS, TABLES, Row, TableName


def normalise(table: TableName, row: Mapping[str, Any]) -> Row:
    """Return the row with exactly the table's columns, each value of its column's type.

    Raises:
        ValueError: a column is unknown, missing or of another type, or an integer does not fit 64 bits.
    """
    checks = _CHECKS[table]
    unknown = row.keys() - checks.keys()
    if unknown:
        raise ValueError(f"{table} has no column {sorted(unknown)}")
    checked: Row = {}
    for name, (check, nullable, exact) in checks.items():
        value = row.get(name)
        # As nearly all are; the checks are for the rest.
        if type(value) is exact and (not isinstance(value, str) or value.isascii()):
            checked[name] = value
            continue
        if value is None:
            if not nullable:
                raise ValueError(f"{table}.{name} must not be null")
            checked[name] = None
            continue
        try:
            checked[name] = check(value)
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"{table}.{name}: {error}") from error
    return checked


def encode(entry: Mapping[str, Any]) -> str:
    """Return a journal entry as one line of ASCII JSON; timestamps become ISO 8601 strings."""
    return _ENCODER.encode(entry)


def known(row: Mapping[str, Any]) -> Row:
    """Return a row without its nulls, which `decode` puts back."""
    return {name: value for name, value in row.items() if value is not None}


def decode(table: TableName, row: Row) -> Row:
    """Undo `encode` for a row of a table that `json.loads` has read; columns it lacks become null."""
    values: Row = {name: row.get(name) for name in SCHEMAS[table].names}
    for name in _TIMES[table]:
        if values[name] is not None:
            values[name] = datetime.fromisoformat(values[name])
    return values


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    raise TypeError(f"{type(value).__name__} cannot be journaled")


_ENCODER = json.JSONEncoder(default=_plain, separators=(",", ":"), check_circular=False)


class _Never:
    """The type of no value."""


def _text(value: Any) -> str:
    if type(value) is str and value.isascii():
        return value
    if isinstance(value, Enum):
        value = value.value
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {type(value).__name__}")
    return schema.clean(value)


def _int(value: Any) -> int:
    if type(value) is int and -(2**63) <= value < 2**63:
        return value
    if isinstance(value, bool):
        raise TypeError("expected an integer, got bool")
    number = operator.index(value)
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{number} does not fit 64 bits")
    return number


def _float(value: Any) -> float:
    if isinstance(value, (bool, str)):
        raise TypeError(f"expected a number, got {type(value).__name__}")
    return float(value)


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected true or false, got {type(value).__name__}")
    return value


def _time(value: Any) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise TypeError("expected a datetime with a time zone")
    return value.astimezone(timezone.utc)


def _parents(value: Any) -> list[str]:
    return [_text(parent) for parent in value]


def _curve(value: Any) -> list[dict[str, float]]:
    return [{"progress": _float(point["progress"]), "loss": _float(point["loss"])} for point in value]


_CHECK_OF: dict[pa.DataType, Callable[[Any], Any]] = {
    schema.TEXT: _text,
    schema.INT: _int,
    schema.FLOAT: _float,
    schema.BOOL: _bool,
    schema.TIME: _time,
    schema.IDS: _parents,
    schema.POINTS: _curve,
}
_EXACT: dict[pa.DataType, type] = {schema.FLOAT: float, schema.BOOL: bool, schema.TEXT: str}
"""Types whose values need no further check, but that text is ASCII."""
_CHECKS = {
    table: {f.name: (_CHECK_OF[f.type], f.nullable, _EXACT.get(f.type, _Never)) for f in SCHEMAS[table]}
    for table in TABLES
}
_TIMES = {table: [field.name for field in SCHEMAS[table] if field.type == schema.TIME] for table in TABLES}
