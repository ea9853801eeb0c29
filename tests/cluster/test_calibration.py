from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autoresearch_ray.cluster import calibration
from autoresearch_ray.cluster.calibrated import CALIBRATED, OPTIMUM
from autoresearch_ray.cluster.calibration import Observed, landscape_like, observe, world_like
from autoresearch_ray.cluster.simulated import World, workers
from autoresearch_ray.cluster.simulation import language, simulate
from autoresearch_ray.config import Config
from autoresearch_ray.errors import RunError, UsageError

KNOWN = World(
    CALIBRATED, workers(4), experiment_seconds=120.0, train_seconds=100.0, spread=0.1, crash_share=0.15, lost_share=0.05
)


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    folder = tmp_path_factory.mktemp("calibration") / "run"
    simulate(language(Config(max_experiments=90, seed_replicates=6)), KNOWN, folder=folder)
    return observe(folder)


def test_what_is_read_off_a_lineage_is_what_made_it(observed: Observed) -> None:
    assert observed.start == pytest.approx(0.9979, abs=0.001)
    assert observed.lower_is_better
    assert observed.replicated
    assert observed.sigma == pytest.approx(0.0005, rel=0.5)
    assert observed.crash_share == pytest.approx(0.15, abs=0.1)
    assert observed.lost_share == pytest.approx(0.05, abs=0.05)
    assert observed.experiment_seconds == pytest.approx(120.0, rel=0.05)
    assert observed.train_seconds == 100.0
    assert observed.spread == pytest.approx(0.1, rel=0.3)
    assert observed.model_seconds == calibration.MODEL_SECONDS  # its exchanges were not kept
    assert 0.05 < observed.improved < 0.6
    assert 0.01 < observed.gain < 0.0373


def test_a_landscape_like_it_starts_there_and_gains_as_much(observed: Observed) -> None:
    landscape = landscape_like(observed)
    assert landscape.score(landscape.seed) == pytest.approx(observed.start)
    assert landscape.sigma == observed.sigma
    assert landscape.parts
    assert observed.start - observed.gain > landscape.best > observed.start - 4 * observed.gain
    walks = [calibration._walk(observed, landscape, np.random.default_rng(seed))[0] for seed in range(8)]
    assert float(np.median(walks)) == pytest.approx(observed.gain, rel=0.4)


def test_a_world_like_it_is_as_slow_and_as_faulty(observed: Observed) -> None:
    world = world_like(observed, workers(3))
    assert (world.experiment_seconds, world.crash_share) == (observed.experiment_seconds, observed.crash_share)
    assert sum(node.slots for node in world.nodes) == 3
    longer = world.lasting(1200.0)
    assert longer.experiment_seconds == 1200.0
    assert longer.train_seconds == pytest.approx(1000.0, rel=0.1)


@pytest.mark.parametrize("start", [-0.91, 3.1, 1e-6])
def test_any_metric_may_be_planned_for(observed: Observed, start: float) -> None:
    offline = replace(
        observed, children=20, start=start, gain=0.05 * abs(start), sigma=0.001 * abs(start), model_seconds=None
    )
    landscape = landscape_like(offline)
    assert landscape.score(landscape.seed) == pytest.approx(start)
    assert not landscape.parts  # no language model took part
    assert landscape.best < start


def test_a_search_without_any_gain_can_be_planned_from(observed: Observed) -> None:
    flat = replace(observed, children=20, gain=observed.sigma, improved=0.0)
    landscape = landscape_like(flat)
    assert landscape.best < observed.start
    assert observed.start - landscape.best < observed.start - OPTIMUM


def test_too_few_children_are_a_sentence(tmp_path: Path) -> None:
    simulate(Config(max_experiments=10), KNOWN, folder=tmp_path / "short")
    with pytest.raises(UsageError, match=r"needs at least 20. Let it go on with `autoresearch-ray resume`"):
        observe(tmp_path / "short")
    with pytest.raises(RunError):
        observe(tmp_path / "nothing")
