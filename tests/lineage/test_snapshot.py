from pathlib import Path

import pytest
import synthetic

from autoresearch_ray.errors import RunError
from autoresearch_ray.lineage import manifest, parts, schema, snapshot
from autoresearch_ray.lineage.sealing import Sealing
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Status

SMALL = Sealing(rows=10, fanout=3, grace_seconds=0)


def test_a_live_run_is_read_from_parts_and_journal_alike(tmp_path: Path) -> None:
    store = LineageStore.create(tmp_path / "nov24", "nov24", sealing=SMALL)
    synthetic.Evolution().record(store, 24)
    tables = snapshot.read(tmp_path / "nov24")
    assert tables.run == "nov24"
    assert tables.variants["number"].to_pylist() == list(range(24))
    assert manifest.read(tmp_path / "nov24").sealed < tables.variants["sequence"][-1].as_py()
    replayed = [recorded.row for recorded in store.replay(("variants",))]
    assert tables.variants.to_pylist() == replayed
    store.close()
    assert snapshot.read(tmp_path / "nov24").variants.equals(tables.variants)


def test_bulky_columns_come_only_when_asked_for(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path / "run", 5)
    light, heavy = snapshot.read(folder), snapshot.read(folder, bulky=True)
    assert "source" not in light.variants.column_names
    assert not {"curve", "log_tail"} & set(light.experiments.column_names)
    assert heavy.variants.schema.equals(schema.SCHEMAS["variants"])
    assert len(heavy.experiments["curve"][0].as_py()) == 20


def test_an_empty_run_has_four_empty_tables(tmp_path: Path) -> None:
    LineageStore.create(tmp_path / "run", "run").close()
    tables = snapshot.read(tmp_path / "run", bulky=True)
    for table in schema.TABLES:
        assert len(getattr(tables, table)) == 0
        assert getattr(tables, table).schema.equals(schema.SCHEMAS[table])


def test_fetch_gets_a_few_rows_from_wherever_they_are(tmp_path: Path) -> None:
    with LineageStore.create(tmp_path / "run", "run", sealing=SMALL) as store:
        synthetic.Evolution(run="run").record(store, 30)
        rows = {r.sequence: r.row["source"] for r in store.replay(("variants",), bulky=True)}
        wanted = sorted(rows)[::7]
        found = snapshot.fetch(tmp_path / "run", "variants", wanted, ["source"])
        assert found == {sequence: {"sequence": sequence, "source": rows[sequence]} for sequence in wanted}
        assert snapshot.fetch(tmp_path / "run", "variants", [10**9], ["source"]) == {}


def test_fetch_reads_no_more_row_groups_than_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "ROW_GROUP_ROWS", 10)
    folder = synthetic.make(tmp_path / "run", 100)
    read: list[int] = []
    real = parts.conform
    monkeypatch.setattr(parts, "conform", lambda data, *rest: (read.append(len(data)), real(data, *rest))[1])
    sequence = snapshot.read(folder).variants["sequence"][57].as_py()
    read.clear()
    [row] = snapshot.fetch(folder, "variants", [sequence], ["number"]).values()
    assert row["number"] == 57
    assert read == [10]


def test_a_part_that_compaction_removes_under_the_reader_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LineageStore.create(tmp_path / "run", "run", sealing=Sealing(rows=1000, fanout=2, grace_seconds=0))
    evolution = synthetic.Evolution(run="run")
    evolution.record(store, 10)
    store.seal()
    real, calls = parts.whole, []

    def disturbed(*arguments, **named):
        if not calls:
            calls.append(1)
            store.append("champions", synthetic.champion_row(evolution.origin, "a", 1.0, synthetic.START))
            for number in range(100, 110):
                store.append(
                    "variants", schema.variant_row(evolution.origin, synthetic.variant(number), Status.COMPLETED)
                )
            store.commit()
            store.seal()
        return real(*arguments, **named)

    monkeypatch.setattr(parts, "whole", disturbed)
    tables = snapshot.read(tmp_path / "run")
    assert tables.damage == ()
    assert len(tables.variants) == 20
    assert len(tables.champions) == 1


def test_a_part_that_is_missing_for_good_is_named_and_the_rest_shown(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path / "run", 30, sealing=Sealing(rows=10, fanout=100))
    victim = sorted((folder / "lineage" / "variants").iterdir())[0]
    rows = len(snapshot.read(folder).variants)
    victim.unlink()
    tables = snapshot.read(folder)
    assert 0 < len(tables.variants) < rows
    assert len(tables.damage) == 1
    assert str(victim) in tables.damage[0]
    assert "rest is shown" in tables.damage[0]


def test_a_damaged_page_is_found_by_its_checksum(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path / "run", 30)
    [victim] = (folder / "lineage" / "experiments").iterdir()
    data = bytearray(victim.read_bytes())
    data[60] ^= 1
    victim.write_bytes(data)
    tables = snapshot.read(folder)
    assert len(tables.experiments) == 0
    assert str(victim) in tables.damage[0]
    assert len(tables.variants) == 30


def test_a_hole_in_the_journal_is_named(tmp_path: Path) -> None:
    store = LineageStore.create(tmp_path / "run", "run")
    synthetic.Evolution(run="run").record(store, 5)
    data = bytearray(store._journal.path.read_bytes())
    data[30] ^= 1
    store._journal.path.write_bytes(data)
    tables = snapshot.read(tmp_path / "run")
    assert tables.variants["number"].to_pylist() == [1, 2, 3, 4]
    assert "damaged at byte 0" in tables.damage[0]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        snapshot.read(tmp_path)


def test_a_part_of_a_newer_schema_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = synthetic.make(tmp_path / "run", 3)
    newer = {
        name: table.with_metadata({**table.metadata, schema.VERSION_KEY: b"99"})
        for name, table in schema.SCHEMAS.items()
    }
    monkeypatch.setattr(parts, "SCHEMAS", newer)
    with LineageStore.open(folder) as store:
        store.append("variants", schema.variant_row(synthetic.origin(), synthetic.variant(50), Status.COMPLETED))
    monkeypatch.undo()
    with pytest.raises(RunError, match="newer autoresearch-ray"):
        snapshot.read(folder)


def test_a_column_that_an_older_part_lacks_is_null(tmp_path: Path) -> None:
    data = schema.SCHEMAS["champions"].empty_table().drop_columns(["replaced"])
    assert parts.conform(data, "champions").schema.equals(schema.SCHEMAS["champions"])
