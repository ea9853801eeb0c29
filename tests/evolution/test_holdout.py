"""What the holdout rows say reaches neither those who propose nor those who select."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from scripted import SEED_SOURCE, ScriptedCluster, bowl

import autoresearch_ray.operators
from autoresearch_ray.config import Config
from autoresearch_ray.evolution.driver import Driver
from autoresearch_ray.lineage.schema import Origin
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.operators.request import Request
from autoresearch_ray.variant import Experiment, Result

TELLTALE = 7.6543217


class Listening(ScriptedCluster):
    """Notes what operators are asked, and gives every training a holdout score that would stand out."""

    def __init__(self, best_first: bool) -> None:
        super().__init__(self._measure)
        self.sign = 1.0 if best_first else -1.0
        self.requests: list[Request] = []

    def _measure(self, experiment: Experiment) -> Result:
        result = bowl(experiment)
        assert result.val_bpb is not None
        return dataclasses.replace(result, holdout_bpb=TELLTALE + self.sign * result.val_bpb * 1e-9)

    def propose(self, request: Request) -> None:
        self.requests.append(request)
        super().propose(request)


def births(folder: Path, cluster: Listening) -> list[tuple[str, ...]]:
    config = Config(max_experiments=25, population_size=4, seed_replicates=2)
    with LineageStore.create(folder, "mar5") as store:
        driver = Driver(config, cluster, store, Origin("mar5"))
        driver.begin(SEED_SOURCE)
        driver.run()
    return [(experiment.experiment_id, experiment.source) for experiment in cluster.experiments]


def test_no_request_holds_a_holdout_score(tmp_path: Path) -> None:
    cluster = Listening(best_first=True)
    births(tmp_path / "run", cluster)
    assert len(cluster.requests) > 10
    assert not any("7.65432" in repr(request) for request in cluster.requests)
    fields = {field.name for field in dataclasses.fields(Request)}
    assert not any("holdout" in name for name in fields)


def test_the_search_is_the_same_whatever_the_holdout_rows_say(tmp_path: Path) -> None:
    assert births(tmp_path / "a", Listening(True)) == births(tmp_path / "b", Listening(False))


def test_no_operator_knows_the_word() -> None:
    folder = Path(autoresearch_ray.operators.__file__).parent
    assert not any("holdout" in path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
