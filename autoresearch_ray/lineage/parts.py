"""Sealed Parquet parts: writing, merging and reading them with flat memory.

Owns the Parquet settings. Does not own which parts exist (manifest.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from autoresearch_ray.errors import RunError
from autoresearch_ray.lineage import files
from autoresearch_ray.lineage.manifest import Part, part_path
from autoresearch_ray.lineage.schema import BULKY, SCHEMAS, VERSION_KEY, Row, TableName, check_version

ROW_GROUP_ROWS = 2048
ROW_GROUP_BYTES = 16 << 20
"""A row group is at most so large: what one look at a source has to decompress, and the memory of a merge."""

_UNIQUE = {"variant_id", "experiment_id", "source", "source_hash", "ast_hash", "log_tail", "hypothesis"}


class DamagedPart(Exception):
    """A part that cannot be read; its message names the file."""

    def __init__(self, part: Part, message: str) -> None:
        super().__init__(message)
        self.part = part


def write(lineage: Path, table: TableName, number: int, rows: Sequence[Row]) -> Part:
    """Seal rows, ordered by sequence, into a new part: written aside, made durable, then named."""
    data = pa.Table.from_pylist(list(rows), schema=SCHEMAS[table])
    part = Part(table, number, len(rows), 0, rows[0]["sequence"], rows[-1]["sequence"])
    return _write(lineage, part, iter([data]))


def merge(lineage: Path, number: int, merged: Sequence[Part]) -> Part:
    """Write neighbouring parts of one table as a single one of the next level, one row group at a time.

    Raises:
        DamagedPart: one of them cannot be read; nothing has been written.
    """
    first, last = merged[0], merged[-1]
    part = Part(
        table=first.table,
        number=number,
        rows=sum(p.rows for p in merged),
        bytes=0,
        first_sequence=first.first_sequence,
        last_sequence=last.last_sequence,
        level=max(p.level for p in merged) + 1,
    )
    try:
        return _write(lineage, part, (batch for old in merged for batch in _present(lineage, old)))
    except DamagedPart:
        files.remove(files.temporary(part_path(lineage, part.table, part.name)))
        raise


def batches(
    lineage: Path, part: Part, columns: Sequence[str] | None = None, within: tuple[int, int] | None = None
) -> Iterator[pa.Table]:
    """Yield a part's rows a row group at a time, in the present schema; columns it lacks are null.

    Args:
        lineage: the folder of the lineage.
        part: the part to read.
        columns: those to read, in this order; None reads all.
        within: read only the row groups that may hold sequences in this range, both ends included.

    Raises:
        DamagedPart: the file is not readable.
        RunError: a newer engine wrote it.
        FileNotFoundError: compaction has deleted it meanwhile.
    """
    path = part_path(lineage, part.table, part.name)
    wanted = SCHEMAS[part.table].names if columns is None else list(columns)
    with _translated(part, path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        present = _present_columns(file, path, wanted)
        for group in _groups(file.metadata, within):
            yield conform(file.read_row_group(group, columns=present), part.table, wanted)


def whole(lineage: Path, part: Part, columns: Sequence[str]) -> pa.Table:
    """Return some columns of all of a part's rows, faster than `batches` and without its flat memory.

    Raises:
        DamagedPart: it cannot be read.
        RunError: a newer engine wrote it.
        FileNotFoundError: compaction has deleted it meanwhile.
    """
    path = part_path(lineage, part.table, part.name)
    with _translated(part, path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        present = _present_columns(file, path, columns)
        return conform(file.read(columns=present), part.table, columns)


def check(lineage: Path, part: Part) -> str | None:
    """Return what is wrong with a part as far as its footer tells, or None.

    Raises:
        RunError: a newer engine wrote it.
    """
    path = part_path(lineage, part.table, part.name)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            check_version(int((file.schema_arrow.metadata or {}).get(VERSION_KEY, b"1")), path)
            rows = file.metadata.num_rows
    except FileNotFoundError:
        return f"{path} is missing"
    except (OSError, ValueError, pa.ArrowException) as error:
        return f"{path} is damaged ({_line(error)})"
    return None if rows == part.rows else f"{path} holds {rows} rows instead of {part.rows}"


def conform(data: pa.Table, table: TableName, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the data with exactly these columns of the table's schema; those it lacks are null."""
    fields = [SCHEMAS[table].field(name) for name in (SCHEMAS[table].names if columns is None else columns)]
    arrays = [
        data.column(field.name).cast(field.type) if field.name in data.column_names else pa.nulls(len(data), field.type)
        for field in fields
    ]
    return pa.table(arrays, schema=pa.schema(fields, metadata=SCHEMAS[table].metadata))


def light_columns(table: TableName) -> list[str]:
    """Return the columns of a table that are not bulky."""
    return [name for name in SCHEMAS[table].names if name not in BULKY[table]]


@contextlib.contextmanager
def _translated(part: Part, path: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes of the Parquet reader into DamagedPart."""
    try:
        yield
    except (FileNotFoundError, RunError):
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DamagedPart(part, f"{path} is damaged ({_line(error)})") from error


def _present_columns(file: pq.ParquetFile, path: Path, wanted: Sequence[str]) -> list[str]:
    """Return which columns the file has (Raises RunError: a newer engine wrote it)."""
    stored = file.schema_arrow
    check_version(int((stored.metadata or {}).get(VERSION_KEY, b"1")), path)
    return [name for name in wanted if name in stored.names]


def _present(lineage: Path, part: Part) -> Iterator[pa.Table]:
    try:
        yield from batches(lineage, part)
    except FileNotFoundError as error:
        raise DamagedPart(part, f"{part_path(lineage, part.table, part.name)} is missing") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _write(lineage: Path, part: Part, data: Iterator[pa.Table]) -> Part:
    path = part_path(lineage, part.table, part.name)
    schema = SCHEMAS[part.table]
    with pq.ParquetWriter(
        files.temporary(path),
        schema,
        compression="zstd",
        use_dictionary=[name for name in schema.names if name not in _UNIQUE],
        write_statistics=True,
        write_page_checksum=True,
        data_page_size=4 << 20,
    ) as writer:
        for table in _row_groups(data):
            writer.write_table(table.cast(schema), row_group_size=ROW_GROUP_ROWS)
    files.publish(path)
    return Part(
        part.table, part.number, part.rows, path.stat().st_size, part.first_sequence, part.last_sequence, part.level
    )


def _groups(metadata: pq.FileMetaData, within: tuple[int, int] | None) -> Iterator[int]:
    """Yield the row groups whose statistics of `sequence`, the first column, meet the range."""
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(0).statistics
        if within is None or statistics is None or (statistics.min <= within[1] and statistics.max >= within[0]):
            yield group


def _row_groups(data: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Gather small tables, so that merging small parts does not leave small row groups."""
    held: list[pa.Table] = []
    for table in data:
        gathered = [*held, table]
        if held and (sum(map(len, gathered)) > ROW_GROUP_ROWS or sum(t.nbytes for t in gathered) > ROW_GROUP_BYTES):
            yield pa.concat_tables(held)
            held = []
        held.append(table)
    if held:
        yield pa.concat_tables(held)
