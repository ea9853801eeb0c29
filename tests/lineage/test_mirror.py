import shutil
from pathlib import Path

import pytest
import s3_server
import synthetic

from autoresearch_ray.errors import RunError
from autoresearch_ray.lineage import snapshot
from autoresearch_ray.lineage.mirror import Mirror, is_uri
from autoresearch_ray.lineage.sealing import Sealing
from autoresearch_ray.lineage.store import LineageStore


def test_a_copy_reads_as_the_run_itself(run: Path, tmp_path: Path) -> None:
    mirror = Mirror(run.as_uri(), tmp_path)
    here, there = snapshot.read(mirror.folder, bulky=True), snapshot.read(run, bulky=True)
    for table in ("variants", "experiments", "champions", "events"):
        assert getattr(here, table).equals(getattr(there, table))
    assert here.run == there.run
    assert not (mirror.folder / "lineage" / "lock").exists()


def test_only_what_is_new_is_copied(tmp_path: Path) -> None:
    evolution = synthetic.Evolution(run="live")
    with LineageStore.create(tmp_path / "live", "live", sealing=Sealing(rows=20, fanout=100)) as store:
        evolution.record(store, 30)
        mirror = Mirror((tmp_path / "live").as_uri(), tmp_path / "cache")
        parts = sorted((mirror.folder / "lineage").rglob("*.parquet"))
        stamps = {path: path.stat().st_mtime_ns for path in parts}
        assert parts
        evolution.record(store, 30)
        mirror.refresh()
        assert len(snapshot.read(mirror.folder).variants) == 60
        assert {path: path.stat().st_mtime_ns for path in parts} == stamps


def test_parts_that_compaction_replaced_are_forgotten(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path / "run", 30, sealing=Sealing(rows=10, fanout=100))
    mirror = Mirror(folder.as_uri(), tmp_path / "cache")
    before = set((mirror.folder / "lineage").rglob("*.parquet"))
    with LineageStore.open(folder, sealing=Sealing(rows=10, fanout=2, grace_seconds=0)) as store:
        store.seal()
        store.seal()
    mirror.refresh()
    after = set((mirror.folder / "lineage").rglob("*.parquet"))
    assert len(after) < len(before)
    assert len(snapshot.read(mirror.folder).variants) == 30


def test_nothing_is_written_where_the_run_lies(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    Mirror(folder.as_uri(), tmp_path / "cache").refresh()
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize("uri", ["nowhere://bucket/run", "file:///no/such/run"])
def test_what_cannot_be_read_is_a_sentence(tmp_path: Path, uri: str) -> None:
    with pytest.raises(RunError):
        Mirror(uri, tmp_path)


def test_uris_are_told_from_names() -> None:
    assert is_uri("s3://bucket/nov24")
    assert not is_uri("runs/nov24")


@pytest.mark.slow
def test_a_bucket_is_read_as_the_folder_it_was_copied_from(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "nobody's")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    shutil.copytree(run, tmp_path / "bucket" / "runs" / "nov24")
    with s3_server.serve(tmp_path / "bucket") as options:
        mirror = Mirror(f"s3://bucket/runs/nov24?{options}", tmp_path / "cache")
        mirror.refresh()
        assert snapshot.read(mirror.folder, bulky=True).variants.equals(snapshot.read(run, bulky=True).variants)
        assert mirror.folder.name == "nov24"
        with pytest.raises(RunError, match="is not a run"):
            Mirror(f"s3://bucket/runs/nov23?{options}", tmp_path / "cache")
