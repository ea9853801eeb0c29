from pathlib import Path

import pytest

import autoresearch_ray
from autoresearch_ray.errors import RunError
from autoresearch_ray.lineage.query import Lineage


def test_tables_scores_and_descent(run: Path) -> None:
    opened, lineage = autoresearch_ray.open_run(run), Lineage.open(run)
    assert len(opened.variants) == 120
    assert opened.name == "run"
    assert opened.best(3)["variant_id"].to_pylist() == [lineage.ids[place] for place in lineage.best(3)]
    best = lineage.find("best")
    assert opened.path()["variant_id"].to_pylist() == [lineage.ids[place] for place in lineage.path(best)]
    assert opened.ancestors("best")["variant_id"].to_pylist() == [lineage.ids[p] for p in lineage.ancestors(best)]
    assert len(opened.ancestors("seed")) == 0
    everyone = set(opened.descendants("seed")["variant_id"].to_pylist()) | {lineage.ids[lineage.find("seed")]}
    assert everyone >= {lineage.ids[place] for place in lineage.best(5)}
    assert opened.source("best") == lineage.source(best)
    row = opened.scores.slice(best, 1).to_pylist()[0]
    score = lineage.score(best)
    assert score is not None
    assert (row["val_bpb"], row["trainings"]) == (pytest.approx(score.mean), score.count)
    assert opened.sigma == lineage.sigma


def test_one_frame_a_row_a_variant(run: Path) -> None:
    pytest.importorskip("pandas")
    frame = autoresearch_ray.open_run(run).to_pandas()
    assert len(frame) == 120
    assert {"variant_id", "operator", "hypothesis", "val_bpb", "trainings", "standard_error", "gain"} <= set(frame)
    assert frame["val_bpb"].isna().sum() > 0


def test_a_uri_is_opened_and_a_wrong_name_is_a_sentence(run: Path) -> None:
    assert len(autoresearch_ray.open_run(run.as_uri()).variants) == 120
    with pytest.raises(RunError, match="no run"):
        autoresearch_ray.open_run("nowhere")
    with pytest.raises(RunError, match="no variant"):
        autoresearch_ray.open_run(run).ancestors("zzzz")
