"""A lineage in the formats of others: autoresearch's results.tsv first.

Owns the mapping to their words. Does not own writing to a file (cli).
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow.compute as pc

from autoresearch_ray.explore import text
from autoresearch_ray.lineage.query import Lineage

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


def _peak_memory(lineage: Lineage) -> dict[str, int]:
    """Return the largest peak memory of each variant's experiments, in bytes."""
    table = lineage.tables.experiments.select(["variant_id", "peak_memory_bytes"])
    table = table.filter(pc.is_valid(table["peak_memory_bytes"])).group_by("variant_id")
    peaks = table.aggregate([("peak_memory_bytes", "max")])
    return dict(zip(peaks["variant_id"].to_pylist(), peaks["peak_memory_bytes_max"].to_pylist(), strict=True))
