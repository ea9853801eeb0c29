from pathlib import Path

import hostile
import synthetic

from autoresearch_ray.explore import export
from autoresearch_ray.lineage import schema
from autoresearch_ray.lineage.query import Lineage
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
