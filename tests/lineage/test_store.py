import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import synthetic

from autoresearch_ray.errors import RunError, StorageError
from autoresearch_ray.lineage import files, journal, manifest, parts, schema
from autoresearch_ray.lineage import store as store_module
from autoresearch_ray.lineage.sealing import Sealing
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Result, Status

TIGHT = Sealing(rows=6, fanout=2, grace_seconds=0)
ORIGIN = synthetic.origin("run")


def variant(number: int):
    return synthetic.variant(number, run="run")


def add(store: LineageStore, number: int, *, score: float | None = 1.0) -> None:
    """One ended birth: its experiment and its variant."""
    born = variant(number)
    status = Status.CRASHED if score is None else Status.COMPLETED
    row = schema.experiment_row(ORIGIN, synthetic.experiment(born), Result(status, "", val_bpb=score))
    store.append("experiments", row)
    store.append("variants", schema.variant_row(ORIGIN, born, status))


def numbers(store: LineageStore) -> list[int]:
    return [recorded.row["number"] for recorded in store.replay(("variants",))]


def sequences(store: LineageStore) -> list[int]:
    return [recorded.sequence for recorded in store.replay()]


def filled(folder: Path, births: int, sealing: Sealing | None = None) -> LineageStore:
    store = LineageStore.create(folder, "run", sealing=sealing)
    for number in range(births):
        add(store, number)
        store.commit()
    return store


# ----------------------------------------------------------------------------------------------------------- ordinary


@pytest.mark.parametrize("sealing", [TIGHT, Sealing(), Sealing(rows=1, fanout=3, grace_seconds=0), Sealing(bytes=2000)])
def test_replay_gives_every_row_once_in_the_order_of_sequence(tmp_path: Path, sealing: Sealing) -> None:
    with filled(tmp_path, 40, sealing) as store:
        assert sequences(store) == list(range(80))
    with LineageStore.open(tmp_path) as store:
        assert sequences(store) == list(range(80))
        assert numbers(store) == list(range(40))
        assert store.sequence == 79
        add(store, 40)
        store.commit()
        assert sequences(store) == list(range(82))


def test_rows_come_back_as_they_went_in(tmp_path: Path) -> None:
    with filled(tmp_path, 3) as store:
        before = [recorded.row for recorded in store.replay(bulky=True)]
    with LineageStore.open(tmp_path) as store:
        assert [recorded.row for recorded in store.replay(bulky=True)] == before
        assert schema.variant_of(before[1]) == variant(0)
        light = next(store.replay(("variants",))).row
        assert "source" not in light
        assert light["hypothesis"] == "step 0"


def test_before_a_commit_nothing_is_durable_and_after_it_everything(tmp_path: Path) -> None:
    store = LineageStore.create(tmp_path, "run")
    add(store, 0)
    path = manifest.journal_path(tmp_path / "lineage", "journal-00000000.log")
    assert path.stat().st_size == 0
    assert sequences(store) == []
    store.commit()
    assert len(journal.scan(path.read_bytes()).records) == 1
    assert sequences(store) == [0, 1]


def test_a_row_that_does_not_fit_adds_nothing(tmp_path: Path) -> None:
    with LineageStore.create(tmp_path, "run") as store:
        with pytest.raises(ValueError, match="no column"):
            store.append("events", {"nonsense": 1})
        add(store, 0)
        store.commit()
        assert sequences(store) == [0, 1]


def test_sealing_empties_memory_and_makes_few_parts(tmp_path: Path) -> None:
    store = filled(tmp_path, 500, Sealing(rows=20, fanout=4, grace_seconds=0))
    assert len(store._committed) < 20
    assert len(list((tmp_path / "lineage" / "variants").iterdir())) < 16
    assert len(list((tmp_path / "lineage" / "journal").iterdir())) == 1
    assert sequences(store) == list(range(1000))


def test_a_part_is_a_plain_parquet_file_with_its_schema_version(tmp_path: Path) -> None:
    filled(tmp_path, 3).close()
    [path] = (tmp_path / "lineage" / "variants").glob("part-*.parquet")
    assert pq.read_schema(path).metadata[schema.VERSION_KEY] == b"1"
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"
    assert pq.read_table(path).schema.equals(schema.SCHEMAS["variants"])


def test_a_first_part_without_any_score_reads_back_with_later_ones(tmp_path: Path) -> None:
    with LineageStore.create(tmp_path, "run") as store:
        for number, score in enumerate([None, None, 0.5]):
            add(store, number, score=score)
            store.commit()
            store.seal()
        scores = [recorded.row["val_bpb"] for recorded in store.replay(("experiments",))]
    assert scores == [None, None, 0.5]
    dataset = ds.dataset(tmp_path / "lineage" / "experiments", format="parquet")
    assert dataset.to_table()["val_bpb"].to_pylist() == [None, None, 0.5]


def test_a_closed_store_refuses_more(tmp_path: Path) -> None:
    store = filled(tmp_path, 1)
    store.close()
    for call in (store.commit, store.seal, lambda: add(store, 1)):
        with pytest.raises(ValueError, match="closed"):
            call()
    store.close()


def test_sealing_what_is_not_committed_is_refused(tmp_path: Path) -> None:
    with LineageStore.create(tmp_path, "run") as store:
        add(store, 0)
        with pytest.raises(ValueError, match="not committed"):
            store.seal()
        store.commit()


def test_after_an_exception_only_what_was_committed_is_recorded(tmp_path: Path) -> None:
    def interrupted() -> None:
        with LineageStore.create(tmp_path, "run") as store:
            add(store, 0)
            store.commit()
            add(store, 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with LineageStore.open(tmp_path) as store:
        assert numbers(store) == [0]


# ---------------------------------------------------------------------------------------------------------- in flight


def test_births_and_proposals_are_open_until_their_row(tmp_path: Path) -> None:
    with LineageStore.create(tmp_path, "run") as store:
        for number in (2, 0, 1):
            store.reserve(variant(number).birth)
        store.propose(variant(1))
        store.propose(variant(0))
        add(store, 0)
        store.commit()
    with LineageStore.open(tmp_path) as store:
        assert store.open_births() == (variant(1).birth, variant(2).birth)
        assert store.open_proposals() == (variant(1),)
        assert numbers(store) == [0]


def test_what_is_open_is_carried_over_many_sealings(tmp_path: Path) -> None:
    with LineageStore.create(tmp_path, "run", sealing=TIGHT) as store:
        store.reserve(variant(1000).birth)
        store.propose(variant(1000))
        for number in range(30):
            store.reserve(variant(number).birth)
            store.commit()
            add(store, number)
            store.commit()
    with LineageStore.open(tmp_path) as store:
        assert store.open_births() == (variant(1000).birth,)
        assert store.open_proposals() == (variant(1000),)
        add(store, 1000)
    with LineageStore.open(tmp_path) as store:
        assert store.open_births() == store.open_proposals() == ()


def test_many_open_proposals_do_not_make_every_commit_seal(tmp_path: Path) -> None:
    store = LineageStore.create(tmp_path, "run", sealing=Sealing(rows=1000, bytes=20_000))
    for number in range(200):
        store.propose(variant(10_000 + number))
    store.commit()
    for number in range(20):
        add(store, number)
        store.commit()
    assert len(list((tmp_path / "lineage" / "variants").iterdir())) <= 3
    assert len(store.open_proposals()) == 200


# ---------------------------------------------------------------------------------------------------------- one driver


def test_a_run_cannot_be_made_twice(tmp_path: Path) -> None:
    filled(tmp_path, 1).close()
    with pytest.raises(RunError, match="holds a run already"):
        LineageStore.create(tmp_path, "run")
    with LineageStore.open(tmp_path) as store:
        assert numbers(store) == [0]


def test_a_folder_that_is_no_run_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        LineageStore.open(tmp_path)
    with pytest.raises(RunError, match="does not exist"):
        LineageStore.open(tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


def test_a_second_driver_is_refused_even_in_another_process(tmp_path: Path) -> None:
    with filled(tmp_path, 1):
        with pytest.raises(RunError, match=rf"another driver \(process {os.getpid()}\)"):
            LineageStore.open(tmp_path)
        code = (
            "import sys; from pathlib import Path\n"
            "from autoresearch_ray.lineage.store import LineageStore\n"
            "from autoresearch_ray.errors import RunError\n"
            "try: LineageStore.open(Path(sys.argv[1]))\n"
            "except RunError as error: print(error); sys.exit(error.exit_code)\n"
        )
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
        assert (done.returncode, str(os.getpid()) in done.stdout) == (2, True), done
    LineageStore.open(tmp_path).close()


def test_a_newer_run_is_refused_and_left_alone(tmp_path: Path) -> None:
    filled(tmp_path, 1).close()
    path = tmp_path / "lineage" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    before = sorted(p.stat().st_mtime_ns for p in tmp_path.rglob("*"))
    with pytest.raises(RunError, match="newer autoresearch-ray"):
        LineageStore.open(tmp_path)
    assert sorted(p.stat().st_mtime_ns for p in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run": "x"}', "\udcff"])
def test_a_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    filled(tmp_path, 1).close()
    (tmp_path / "lineage" / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RunError, match=r"manifest\.json is damaged"):
        LineageStore.open(tmp_path)


# --------------------------------------------------------------------------------------------------------------- kills


class Killed(BaseException):
    """Stands for a kill: nothing between here and the test may clean up."""


def killed_at(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, *, before: bool, when: Callable[..., bool]
) -> None:
    real = getattr(owner, name)

    def dying(*arguments: object, **named: object) -> object:
        if before and when(*arguments):
            raise Killed
        result = real(*arguments, **named)
        if not before and when(*arguments):
            raise Killed
        return result

    monkeypatch.setattr(owner, name, dying)


def always(*_: object) -> bool:
    return True


CRASH_POINTS = {
    "between journal fsync and seal": (LineageStore, "seal", True, always),
    "before a part is named": (files, "publish", True, lambda path: path.suffix == ".parquet"),
    "after the first part, before the manifest": (parts, "write", False, always),
    "after all parts, before the manifest": (LineageStore, "_rotate", True, always),
    "after the new journal, before the manifest": (manifest, "write", True, always),
    "in the middle of replacing the manifest": (files, "publish", True, lambda path: path.name == "manifest.json"),
    "after the manifest, before the old journal goes": (manifest, "write", False, always),
    "before the old journal is deleted": (files, "remove", True, lambda path: path.suffix == ".log"),
    "after merging, before the manifest": (parts, "merge", False, always),
    "before a merged part is deleted": (files, "remove", True, lambda path: path.suffix == ".parquet"),
    "after merged parts are deleted": (LineageStore, "_drop_obsolete", False, always),
}


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_kill_loses_no_committed_row_and_duplicates_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    store = filled(tmp_path, 5, TIGHT)
    store.reserve(variant(77).birth)
    store.commit()
    owner, name, before, when = CRASH_POINTS[point]
    killed_at(monkeypatch, owner, name, before=before, when=when)
    number = 5
    with pytest.raises(Killed):  # noqa: PT012
        while number < 20:
            add(store, number)
            number += 1
            store.commit()
    monkeypatch.undo()
    store._release()
    with LineageStore.open(tmp_path, sealing=TIGHT) as reopened:
        assert reopened.damage == ()
        assert numbers(reopened) == list(range(number))
        assert sequences(reopened) == list(range(2 * number))
        assert reopened.open_births() == (variant(77).birth,)
        add(reopened, number)
        reopened.commit()
        assert sequences(reopened) == list(range(2 * number + 2))
        named = {part.name for part in manifest.read(tmp_path).parts}
        named |= {old.name for old in manifest.read(tmp_path).obsolete}
        assert {path.name for path in (tmp_path / "lineage").glob("*/part-*")} == named


def test_the_last_commit_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    store = filled(tmp_path, 2)
    path = store._journal.path
    before = path.stat().st_size
    for kind in ("challenge", "verdict"):
        store.append("events", schema.event_row(ORIGIN, kind, synthetic.START))
    store.reserve(variant(2).birth)
    store.commit()
    data = path.read_bytes()
    store._release()
    for cut in range(before, len(data) + 1):
        path.write_bytes(data[:cut])
        store = LineageStore.open(tmp_path)
        whole = cut == len(data)
        assert sequences(store) == list(range(4 + 2 * whole)), cut
        assert len(store.open_births()) == whole
        assert store.sequence == 3 + 2 * whole
        assert store.damage == ()
        store._release()


# -------------------------------------------------------------------------------------------------------- damage, disk


@pytest.mark.parametrize("harm", [lambda path: path.unlink(), lambda path: path.write_bytes(b"PAR1 nonsense PAR1")])
def test_a_damaged_part_is_named_and_the_rest_is_used(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    with LineageStore.create(tmp_path, "run") as store:
        for number in range(4):
            add(store, number)
            store.commit()
            store.seal()
    victim = sorted((tmp_path / "lineage" / "variants").iterdir())[1]
    harm(victim)
    with LineageStore.open(tmp_path, sealing=Sealing(rows=1, fanout=2, grace_seconds=0)) as store:
        assert len(store.damage) == 1
        assert str(victim) in store.damage[0]
        assert "the rest is used" in store.damage[0]
        for number in range(4, 12):
            add(store, number)
            store.commit()
        assert numbers(store) == [0, 2, 3, *range(4, 12)]
        assert store.sequence == 23


def test_corruption_inside_a_part_is_found_when_it_is_read(tmp_path: Path) -> None:
    filled(tmp_path, 50).close()
    [victim] = (tmp_path / "lineage" / "variants").iterdir()
    data = bytearray(victim.read_bytes())
    data[100:200] = bytes(100)
    victim.write_bytes(data)
    with LineageStore.open(tmp_path) as store:
        assert numbers(store) == []
        assert str(victim) in store.damage[0]
        assert len(list(store.replay(("experiments",)))) == 50


def test_a_hole_in_the_journal_is_reported_and_the_journal_kept_aside(tmp_path: Path) -> None:
    store = filled(tmp_path, 3)
    path = store._journal.path
    store._release()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with LineageStore.open(tmp_path) as store:
        assert "damaged at byte" in store.damage[0]
        assert numbers(store) == [0, 2]
    assert path.with_suffix(store_module.DAMAGED).read_bytes() == bytes(data)
    with LineageStore.open(tmp_path) as store:
        assert store.damage == ()
        assert numbers(store) == [0, 2]


def test_a_missing_journal_is_reported(tmp_path: Path) -> None:
    filled(tmp_path, 3).close()
    [path] = (tmp_path / "lineage" / "journal").iterdir()
    path.unlink()
    with LineageStore.open(tmp_path) as store:
        assert "is missing" in store.damage[0]
        assert numbers(store) == [0, 1, 2]


@pytest.mark.parametrize("where", ["_journal", "parts"])
def test_a_full_disk_is_a_clean_stop_that_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    store = filled(tmp_path, 2)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    add(store, 2)
    if where == "parts":
        store.commit()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"No space left.*resume") as raised:
        store.commit() if where == "_journal" else store.seal()
    assert raised.value.exit_code == 1
    monkeypatch.undo()
    with pytest.raises(ValueError, match="closed"):
        store.commit()
    with LineageStore.open(tmp_path) as reopened:
        assert numbers(reopened) == ([0, 1] if where == "_journal" else [0, 1, 2])


def test_merged_parts_stay_for_readers_until_their_grace_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(store_module.time, "time", lambda: now[0])
    store = filled(tmp_path, 4, Sealing(rows=2, fanout=2, grace_seconds=60))
    held = manifest.read(tmp_path)
    assert held.obsolete
    assert all(manifest.part_path(tmp_path / "lineage", old.table, old.name).exists() for old in held.obsolete)
    now[0] += 61
    store.seal()
    assert manifest.read(tmp_path).obsolete == ()
    assert {p.name for p in (tmp_path / "lineage").glob("*/part-*")} == {p.name for p in manifest.read(tmp_path).parts}
    assert sequences(store) == list(range(8))


def test_large_parts_are_not_merged_further(tmp_path: Path) -> None:
    store = filled(tmp_path, 8, Sealing(rows=2, fanout=2, merged_rows=1, grace_seconds=0))
    assert {part.level for part in manifest.read(tmp_path).parts} == {0}
    assert sequences(store) == list(range(16))
