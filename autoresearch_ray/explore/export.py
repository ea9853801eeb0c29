"""A lineage in the formats of others: autoresearch's results.tsv first.

Owns the mapping to their words. Does not own writing to a file (cli).
"""

from __future__ import annotations

import csv as commas
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from autoresearch_ray.errors import UsageError
from autoresearch_ray.explore import text
from autoresearch_ray.lineage import snapshot
from autoresearch_ray.lineage.query import Lineage
from autoresearch_ray.lineage.schema import SCHEMAS, TABLES, TableName

TSV_COLUMNS = (
    "commit", "val_bpb", "memory_gb", "status", "description",
    "variant_id", "number", "parents", "operator", "island", "generation", "outcome", "replicates", "standard_error",
    "created_at",
)  # fmt: skip
"""autoresearch's five columns, then ours."""


def tsv(lineage: Lineage) -> Iterator[str]:
    """Yield a header and one line a birth, in the order in which births ended, without line ends.

    As autoresearch has it: `keep` lowered the best score so far, `discard` did not, `crash` has no score (val_bpb
    0.000000, memory 0.0); memory is in GiB. What kind of failure it was says the column `outcome`.
    """
    yield "\t".join(TSV_COLUMNS)
    memory = _peak_memory(lineage)
    rows = lineage.tables.variants.select(
        ["variant_id", "number", "parents", "operator", "island", "generation", "status", "hypothesis", "created_at"]
    ).to_pylist()
    for position, row in enumerate(rows):
        score = lineage.score(position)
        scored = score is not None and bool(lineage.completed[position])
        yield "\t".join(
            [
                text.short(row["variant_id"]),
                f"{score.mean:.6f}" if scored and score else "0.000000",
                f"{memory.get(row['variant_id'], 0) / 2**30:.1f}" if scored else "0.0",
                ("keep" if lineage.records[position] else "discard") if scored else "crash",
                text.plain(row["hypothesis"]),
                row["variant_id"],
                str(row["number"]),
                ",".join(row["parents"]),
                row["operator"],
                str(row["island"]),
                str(row["generation"]),
                row["status"],
                str(score.count if score else 0),
                f"{score.error:.6f}" if score and score.error is not None else "",
                row["created_at"].isoformat(timespec="seconds"),
            ]
        )


def csv(lineage: Lineage, table: TableName = "variants") -> Iterator[str]:
    """Yield a header and one line a row of a table, without its bulky columns and without line ends.

    A text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    rows: pa.Table = getattr(lineage.tables, table)
    yield _line(rows.column_names)
    for batch in rows.to_batches(max_chunksize=4096):
        for row in batch.to_pylist():
            yield _line(list(map(_cell, row.values())))


def _line(cells: list[str]) -> str:
    buffer = io.StringIO()
    commas.writer(buffer, lineterminator="").writerow(cells)
    return buffer.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return " ".join(map(str, value))
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    words = text.plain(value) if isinstance(value, str) else str(value)
    return f"'{words}" if isinstance(value, str) and words[:1] in ("=", "+", "-", "@") else words


def parquet(folder: Path, out: Path) -> dict[str, int]:
    """Write each table as one Parquet file with all its columns; return the rows by file name.

    Args:
        folder: the run's; it may be live.
        out: a folder that is empty or does not exist.

    Raises:
        UsageError: `out` is in use or cannot be written.
        RunError: the folder is not a run, or a newer engine wrote it.
    """
    found = snapshot.datasets(folder)
    whole: snapshot.Tables | None = None
    written = {}
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise UsageError(f"{out} is not empty: name a new folder.")
        for table in TABLES:
            path = out / f"{table}.parquet"
            try:
                batches = found.tables[table].to_batches(batch_size=2048, batch_readahead=2, fragment_readahead=1)
                written[path.name] = _store(path, table, batches)
            except (pa.ArrowException, OSError):
                if not snapshot.damage(folder):
                    raise
                whole = whole or snapshot.read(folder, bulky=True)
                written[path.name] = _store(path, table, getattr(whole, table).to_batches(2048))
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error.strerror or error}).") from error
    return written


def _store(path: Path, table: TableName, batches: Iterator[pa.RecordBatch]) -> int:
    rows = 0
    with pq.ParquetWriter(path, SCHEMAS[table], compression="zstd") as writer:
        for batch in batches:
            if len(batch):
                writer.write_batch(batch)
                rows += len(batch)
    return rows


def _peak_memory(lineage: Lineage) -> dict[str, int]:
    """Return the largest peak memory of each variant's experiments, in bytes."""
    table = lineage.tables.experiments.select(["variant_id", "peak_memory_bytes"])
    table = table.filter(pc.is_valid(table["peak_memory_bytes"])).group_by("variant_id")
    peaks = table.aggregate([("peak_memory_bytes", "max")])
    return dict(zip(peaks["variant_id"].to_pylist(), peaks["peak_memory_bytes_max"].to_pylist(), strict=True))
