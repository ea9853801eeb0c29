import json

import numpy as np
import pytest
import synthetic

from autoresearch_ray.explore.web import clock, columns, points, progress
from autoresearch_ray.lineage.query import Lineage
from autoresearch_ray.lineage.store import LineageStore


@pytest.mark.parametrize("dtype", columns.TYPES)
def test_columns_survive_and_are_aligned(dtype: str) -> None:
    packed = columns.pack({"é": [1, None]}, {"a": np.arange(5, dtype=dtype), "b": np.arange(3, dtype="float64")})
    head, found = columns.unpack(packed)
    assert head == {"é": [1, None]}
    assert found["a"].tolist() == [0, 1, 2, 3, 4]
    size = int.from_bytes(packed[:4], "little")
    entries = json.loads(packed[4 : 4 + size])["columns"]
    assert all((4 + size + entry["offset"]) % 8 == 0 for entry in entries)


def test_points_are_the_births_in_their_order(lineage: Lineage) -> None:
    head, found = columns.unpack(points.pack(lineage))
    size = head["id_bytes"]
    raw = found["id"].tobytes()
    ids = [raw[place * size : (place + 1) * size].decode() for place in range(head["count"])]
    assert ids == lineage.ids
    for place in range(len(lineage)):
        score = lineage.score(place)
        told = lineage.statuses[place] == "completed" and score is not None
        assert np.isfinite(found["score"][place]) == told
        if told and score is not None:
            assert found["score"][place] == pytest.approx(score.mean)
            assert found["error"][place] == pytest.approx(score.error, rel=1e-5)
        assert head["operators"][found["operator"][place]] == lineage.operators[place]
        assert head["statuses"][found["status"][place]] == lineage.statuses[place]
        parents = [lineage.ids[at] for at in (found["first"][place], found["second"][place]) if at >= 0]
        assert parents == lineage.row(place)["parents"][:2]


def test_flags_mark_the_champion_and_its_path(lineage: Lineage) -> None:
    _, found = columns.unpack(points.pack(lineage))
    assert lineage.champion is not None
    assert np.flatnonzero(found["flags"] & points.ON_PATH).tolist() == sorted(lineage.path(lineage.champion))
    assert np.flatnonzero(found["flags"] & points.CHAMPION).tolist() == [lineage.champion]
    assert np.flatnonzero(found["flags"] & points.SEED).tolist() == [lineage.seed]


def test_progress_has_every_experiment_and_the_axes_never_go_back(lineage: Lineage) -> None:
    head, found = columns.unpack(progress.pack(lineage))
    table = lineage.tables.experiments
    assert len(found["score"]) == len(table)
    assert np.isfinite(found["score"]).sum() == table["status"].to_pylist().count("completed")
    for axis in ("births", "slot_hours", "usd"):
        assert (np.diff(found[axis]) >= 0).all()
    assert found["slot_hours"][-1] == pytest.approx(sum(table["wall_seconds"].to_pylist()) / 3600, rel=1e-5)
    assert found["usd"][-1] <= sum(lineage.column("llm_usd")) + 1e-6
    [champion] = head["champions"]
    assert champion["variant_id"] == lineage.ids[lineage.champion]
    assert champion["births"] == len(lineage)
    assert [record["variant_id"] for record in head["records"]] == [
        lineage.ids[place] for place in np.flatnonzero(lineage.records)
    ]


def test_an_empty_run_has_empty_columns(tmp_path) -> None:
    with LineageStore.create(tmp_path / "run", "run"):
        lineage = Lineage.open(tmp_path / "run")
    assert columns.unpack(points.pack(lineage))[0]["count"] == 0
    assert len(columns.unpack(progress.pack(lineage))[1]["score"]) == 0
    assert clock.of(lineage).start == 0.0


def test_the_clock_counts_births_by_their_place_in_the_run(tmp_path) -> None:
    evolution = synthetic.Evolution(run="run")
    with LineageStore.create(tmp_path / "run", "run") as store:
        evolution.record(store, 12)
    lineage = Lineage.open(tmp_path / "run")
    sequences = lineage.tables.variants["sequence"].to_numpy()
    places = clock.of(lineage).at(sequences, clock.seconds(lineage.tables.variants["created_at"]))
    assert places["births"].tolist() == list(range(1, 13))
    assert places["hours"][0] == pytest.approx(0.0, abs=1e-6)
