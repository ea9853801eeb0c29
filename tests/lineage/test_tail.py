"""Each row once, in its order, however the driver seals, merges and rotates meanwhile."""

import random
from pathlib import Path

import pytest
import synthetic

from autoresearch_ray.errors import RunError
from autoresearch_ray.lineage import manifest
from autoresearch_ray.lineage.sealing import Sealing
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.lineage.tail import Tail

COLUMNS = {"variants": ("sequence", "variant_id"), "experiments": ("sequence", "val_bpb")}


def sequences(tail: Tail) -> list[int]:
    return [recorded.sequence for recorded in tail.rows()]


@pytest.mark.parametrize("seed", range(4))
def test_every_row_is_given_once_while_the_driver_seals_and_merges(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    tail = Tail(tmp_path, COLUMNS)
    found: list[int] = []
    sealing = Sealing(rows=draw.randrange(3, 20), fanout=2, grace_seconds=0)
    with LineageStore.create(tmp_path, "run", sealing=sealing) as store:
        evolution = synthetic.Evolution(seed, "run")
        for number in range(60):
            evolution._birth(store, number)
            store.commit()
            if draw.random() < 0.3:
                found += sequences(tail)
        expected = [recorded.sequence for recorded in store.replay(tuple(COLUMNS))]
    assert found + sequences(tail) == expected
    assert sequences(Tail(tmp_path, COLUMNS)) == expected
    assert tail.damage == ()


def test_nothing_new_is_seen_without_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LineageStore.create(tmp_path, "run") as store:
        tail = Tail(tmp_path, COLUMNS)
        evolution = synthetic.Evolution(0, "run")
        assert tail.has_news()
        evolution.record(store, 3)
        while tail.has_news():
            assert sequences(tail) is not None
        with monkeypatch.context() as patched:
            patched.setattr(manifest, "read", None)
            assert not tail.has_news()
        evolution._birth(store, 3)
        assert not tail.has_news()  # not committed yet
        store.commit()
        assert tail.has_news()


def test_a_reader_that_begins_again_after_the_journal_was_cut_misses_nothing(tmp_path: Path) -> None:
    tail = Tail(tmp_path, COLUMNS)
    with LineageStore.create(tmp_path, "run", sealing=Sealing(rows=1000)) as store:
        evolution = synthetic.Evolution(0, "run")
        evolution.record(store, 5)
        path = store._journal.path
        whole = path.read_bytes()
        path.write_bytes(whole[:-20])  # the last record is still being written
        before = sequences(tail)
        assert before
        path.write_bytes(whole)
        after = sequences(tail)
        assert after
        assert before + after == [recorded.sequence for recorded in store.replay(tuple(COLUMNS))]


def test_a_missing_part_and_a_damaged_journal_are_named_and_the_rest_is_given(tmp_path: Path) -> None:
    synthetic.make(tmp_path / "run", 30, sealing=Sealing(rows=20))
    lost = manifest.read(tmp_path / "run").parts_of("variants")[0]
    manifest.part_path(manifest.lineage_folder(tmp_path / "run"), "variants", lost.name).unlink()
    tail = Tail(tmp_path / "run", COLUMNS)
    variants = [recorded for recorded in tail.rows() if recorded.table == "variants"]
    assert len(variants) == 30 - lost.rows
    assert len(tail.damage) == 1
    assert lost.name in tail.damage[0]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    tail = Tail(tmp_path, COLUMNS)
    assert tail.has_news()
    with pytest.raises(RunError, match="holds no run"):
        sequences(tail)
