import csv
import io
from pathlib import Path

import hostile
import pyarrow.parquet as pq
import pytest
import synthetic

from autoresearch_ray.errors import UsageError
from autoresearch_ray.explore import export
from autoresearch_ray.lineage import schema, snapshot
from autoresearch_ray.lineage.query import Lineage
from autoresearch_ray.lineage.sealing import Sealing
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Status


def test_autoresearch_reads_it_as_its_own(lineage: Lineage) -> None:
    header, *lines = export.tsv(lineage)
    assert header.split("\t")[:5] == ["commit", "val_bpb", "memory_gb", "status", "description"]
    assert len(lines) == len(lineage)
    best = float("inf")
    for line in lines:
        cells = line.split("\t")
        assert len(cells) == len(export.TSV_COLUMNS)
        named = dict(zip(export.TSV_COLUMNS, cells, strict=True))
        assert named["commit"] == named["variant_id"][:7]
        score = float(named["val_bpb"])
        if named["outcome"] != "completed":
            assert (named["status"], named["val_bpb"], named["memory_gb"]) == ("crash", "0.000000", "0.0")
        else:
            assert named["status"] == ("keep" if score < best else "discard")
            assert named["memory_gb"] == "0.4"
            best = min(best, score)


def test_hostile_text_stays_in_its_cell(tmp_path: Path) -> None:
    with LineageStore.create(tmp_path / "run", "run") as store:
        born = synthetic.variant(0, run="run", hypothesis=hostile.TEXT)
        store.append("variants", schema.variant_row(synthetic.origin(), born, Status.CRASHED))
    [_, line] = export.tsv(Lineage.open(tmp_path / "run"))
    assert len(line.split("\t")) == len(export.TSV_COLUMNS)
    assert not set(hostile.FORBIDDEN + "\n") & set(line)


def test_csv_has_every_light_column_and_a_line_a_row(lineage: Lineage) -> None:
    rows = list(csv.DictReader(io.StringIO("\n".join(export.csv(lineage)))))
    assert len(rows) == len(lineage)
    assert "source" not in rows[0]
    assert [row["variant_id"] for row in rows] == lineage.ids
    crossed = next(row for row in rows if row["operator"] == "crossover")
    assert len(crossed["parents"].split()) == 2
    experiments = list(csv.DictReader(io.StringIO("\n".join(export.csv(lineage, "experiments")))))
    assert len(experiments) == len(lineage.tables.experiments)


def test_csv_holds_no_formula_and_no_second_line(tmp_path: Path) -> None:
    with LineageStore.create(tmp_path / "run", "run") as store:
        born = synthetic.variant(0, run="run", hypothesis='=HYPERLINK("http://x","y")\n1')
        store.append("variants", schema.variant_row(synthetic.origin(), born, Status.REJECTED, "+1"))
    [row] = csv.DictReader(io.StringIO("\n".join(export.csv(Lineage.open(tmp_path / "run")))))
    assert row["hypothesis"].startswith("'=HYPERLINK")
    assert row["reason"] == "'+1"


def test_parquet_holds_everything(run: Path, tmp_path: Path) -> None:
    written = export.parquet(run, tmp_path / "out")
    whole = snapshot.read(run, bulky=True)
    assert written == {f"{table}.parquet": len(getattr(whole, table)) for table in schema.TABLES}
    for table in schema.TABLES:
        assert pq.read_table(tmp_path / "out" / f"{table}.parquet").to_pylist() == getattr(whole, table).to_pylist()
    with pytest.raises(UsageError, match="not empty"):
        export.parquet(run, tmp_path / "out")


def test_parquet_of_a_damaged_run_has_the_rest(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path / "run", 60, sealing=Sealing(rows=20, fanout=100))
    victim = sorted((folder / "lineage" / "variants").iterdir())[0]
    whole = victim.read_bytes()
    victim.write_bytes(whole[:200] + bytes(255 - byte for byte in whole[200:400]) + whole[400:])
    written = export.parquet(folder, tmp_path / "out")
    assert 0 < written["variants.parquet"] < 60
