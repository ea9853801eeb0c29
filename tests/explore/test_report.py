import warnings
from dataclasses import replace
from pathlib import Path

import hostile
import matplotlib.image
import numpy as np
import pytest
import synthetic
from matplotlib.figure import Figure

from autoresearch_ray.errors import RunError
from autoresearch_ray.explore import report
from autoresearch_ray.explore.standing import standing
from autoresearch_ray.lineage import schema
from autoresearch_ray.lineage.query import Lineage
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Result, Status


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)  # of what other tests left to the garbage collector
        yield


def picture(folder: Path) -> np.ndarray:
    path = report.progress(folder)
    assert path == folder / "progress.png"
    assert not list(folder.glob("*.tmp"))
    return matplotlib.image.imread(path)


@pytest.mark.parametrize("births", [1, 2, 40, 1000])
def test_runs_of_any_size_have_a_picture(tmp_path: Path, births: int) -> None:
    pixels = picture(synthetic.make(tmp_path / "run", births))
    assert pixels.shape == (1012, 1800, 4)
    assert pixels.std() > 0.01


def failed(folder: Path, births: int, hypothesis: str = "x") -> Path:
    with LineageStore.create(folder, folder.name) as store:
        for number in range(births):
            born = synthetic.variant(number, run=folder.name, hypothesis=hypothesis)
            result = Result(Status.CRASHED, "no")
            store.append("experiments", schema.experiment_row(synthetic.origin(), synthetic.experiment(born), result))
            store.append("variants", schema.variant_row(synthetic.origin(), born, Status.CRASHED))
    return folder


@pytest.mark.parametrize("births", [0, 3])
def test_a_run_without_a_score_has_a_picture(tmp_path: Path, births: int) -> None:
    assert picture(failed(tmp_path / "run", births)).shape == (1012, 1800, 4)


def test_what_is_drawn(run: Path, lineage: Lineage) -> None:
    shown = report.gather(lineage)
    assert len(shown.scores) == len(shown.failed) == len(lineage.tables.experiments)
    assert (np.isnan(shown.scores) >= shown.failed).all()
    assert (np.diff(shown.means) < 0).all()
    assert (np.diff(shown.first) > 0).all()
    assert shown.means[-1] == np.nanmin(lineage.means[lineage.completed])
    assert shown.seed == pytest.approx(lineage.means[0])
    assert "120" not in shown.title
    trained = len(set(lineage.tables.experiments["variant_id"].to_pylist()))
    assert f"{len(lineage.tables.experiments)} experiments of {trained} variants" in shown.subtitle
    assert "champion" in shown.subtitle
    assert "±" in shown.subtitle


def progress_of(scores: list[float], means: list[float]) -> report.Progress:
    return report.Progress(
        title="t",
        subtitle="s",
        scores=np.array(scores),
        failed=np.zeros(len(scores), dtype=bool),
        first=np.arange(1, len(means) + 1),
        means=np.array(means),
        errors=np.zeros(len(means)),
        hypotheses=tuple("h" for _ in means),
        seed=means[0],
    )


def test_an_outlier_does_not_squash_the_rest() -> None:
    low, high = report.vertical_range(progress_of([1.0, 0.99, 0.98, 0.985, 0.99, 50.0], [1.0, 0.99, 0.98]))
    assert 0.9 < low < 0.98
    assert 1.0 < high < 1.05


def test_where_higher_is_better_the_worst_is_below() -> None:
    scores, means = [1.0, 0.99, 0.98, 0.985, 0.99, 50.0], [1.0, 0.99, 0.98]
    low, high = report.vertical_range(progress_of(scores, means))
    turned = progress_of([-score for score in scores], [-mean for mean in means])
    turned = replace(turned, lower_is_better=False)
    assert report.vertical_range(turned) == (-high, -low)
    figure = Figure()
    axes = figure.add_subplot()
    report._experiments(axes, turned, (-high, -low))
    edges = {drawn.get_label(): np.asarray(drawn.get_offsets()) for drawn in axes.collections}
    assert edges["worse than shown"].tolist() == [[6.0, 0.035]]
    assert len(edges["experiment"]) == 5


def test_every_kept_score_is_inside_however_far_it_fell() -> None:
    low, high = report.vertical_range(progress_of([8.0, 7.9, 3.0], [8.0, 7.9, 3.0]))
    assert low < 3.0
    assert high > 8.0


def test_hostile_hypotheses_are_drawn_as_text(tmp_path: Path) -> None:
    origin = synthetic.origin("run")
    with LineageStore.create(tmp_path / "run", hostile.MARKUP) as store:
        for number in range(4):
            born = synthetic.variant(number, run="run", hypothesis=hostile.TEXT)
            result = Result(Status.COMPLETED, val_bpb=1.0 - number / 100)
            store.append("experiments", schema.experiment_row(origin, synthetic.experiment(born), result))
            store.append("variants", schema.variant_row(origin, born, Status.COMPLETED))
    picture(tmp_path / "run")


def test_a_folder_that_is_no_run_gets_no_picture(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        report.progress(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_champion_is_marked_at_its_score_on_fresh_seeds(lineage: Lineage) -> None:
    shown = report.gather(lineage)
    best = standing(lineage)
    assert best is not None
    assert best.confirmed
    assert best.score is not None
    assert shown.champion is not None
    number, mean, error = shown.champion
    assert (mean, error) == (best.score.mean, best.score.error)
    assert lineage.tables.experiments["variant_id"][number - 1].as_py() == lineage.ids[best.position]
    assert f"{abs(best.gain or 0):.4f} ±{best.gain_error:.4f} below the seed on fresh seeds" in shown.subtitle
