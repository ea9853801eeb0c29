"""The end phase, challenges that are killed half-way, and `confirm` after the run."""

from __future__ import annotations

import math
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted import SEED_SOURCE, ScriptedCluster, bowl

from autoresearch_ray.config import Config
from autoresearch_ray.errors import RunError
from autoresearch_ray.evolution.confirmation import confirm
from autoresearch_ray.evolution.driver import Driver
from autoresearch_ray.evolution.replay import replay
from autoresearch_ray.lineage.schema import Origin, event_details
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Experiment, Result, Status

RUN = "test"
KEYS: dict[str, Any] = {"max_experiments": 40, "population_size": 3, "num_islands": 1, "crossover_probability": 0.0}


def noisy(experiment: Experiment) -> Result:
    noise = np.random.default_rng(experiment.seed).normal(0, 0.001)
    result = bowl(experiment)
    assert result.val_bpb is not None
    holdout = 2.0 if experiment.holdout else None
    return changed(result, val_bpb=result.val_bpb + noise, holdout_bpb=holdout, wall_seconds=20.0)


def flat(experiment: Experiment) -> Result:
    score = 1.0 + np.random.default_rng(experiment.seed).normal(0, 0.001)
    return Result(status=Status.COMPLETED, val_bpb=score, train_seconds=1.0, wall_seconds=1.0)


def rows(store: LineageStore, table: str) -> list[dict[str, Any]]:
    return [recorded.row for recorded in store.replay((table,))]  # type: ignore[arg-type]


def evolve(folder: Path, train: Any, **keys: Any) -> tuple[Driver, LineageStore]:
    store = LineageStore.create(folder, RUN)
    driver = Driver(Config(**{**KEYS, **keys}), ScriptedCluster(train), store, Origin(RUN))
    driver.begin(SEED_SOURCE)
    driver.run()
    return driver, store


@pytest.mark.parametrize("keys", [{}, {"max_experiments": 400, "max_hours": 0.1}, {"target": 1.08}, {"max_births": 20}])
def test_the_end_phase_confirms_the_best_however_a_run_ends(tmp_path: Path, keys: dict[str, Any]) -> None:
    driver, store = evolve(tmp_path, noisy, **keys)
    champions = rows(store, "champions")
    assert champions
    last, experiments = champions[-1], rows(store, "experiments")
    assert driver.ledger.spent.experiments <= driver.config.max_experiments
    fresh = [row for row in experiments if row["variant_id"] == last["variant_id"] and row["purpose"] == "challenge"]
    assert last["trainings"] >= 2
    assert len(fresh) >= last["trainings"]
    scores = [row["val_bpb"] for row in fresh][: last["trainings"]]
    assert last["posterior_mean"] == pytest.approx(math.fsum(scores) / len(scores))
    assert last["p_better"] > 0.95
    assert {row["holdout_bpb"] for row in fresh} == {2.0}
    assert {row["holdout_bpb"] for row in experiments if row["purpose"] in ("birth", "replicate")} == {None}
    first = next(row["seed"] for row in experiments if row["variant_id"] == last["variant_id"])
    assert first not in {row["seed"] for row in fresh}


def test_where_nothing_is_better_nothing_is_confirmed_and_what_could_have_been_found_is_said(tmp_path: Path) -> None:
    promoted = 0
    for seed in range(4):
        driver, store = evolve(tmp_path / str(seed), flat, seed=seed)
        promoted += len(rows(store, "champions"))
        for row in rows(store, "events"):
            if row["kind"] == "verdict" and event_details(row)["pairs"]:
                assert event_details(row)["detectable"] > 0.0005
        assert driver.ledger.spent.experiments == 40
    assert promoted <= 1


def test_without_replicates_there_is_no_champion(tmp_path: Path) -> None:
    _, store = evolve(tmp_path, noisy, max_replicates=0)
    assert not rows(store, "champions")
    assert {row["purpose"] for row in rows(store, "experiments")} == {"birth"}


def test_replicates_keep_to_their_share_and_their_limit(tmp_path: Path) -> None:
    driver, store = evolve(tmp_path, flat, max_experiments=200, replicate_share=0.125, max_replicates=3)
    again = [row for row in rows(store, "experiments") if row["purpose"] == "replicate"]
    assert 0.04 * 200 <= len(again) <= 0.15 * 200 + 1
    assert max(len(driver.state.scores(number)) for number in range(1, driver.births)) <= 1 + 3 + 2 * 3 + 3


class Killed(BaseException):
    """The driver's process is gone."""


def test_a_challenge_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    store = LineageStore.create(tmp_path, RUN)

    def die(driver: Driver) -> None:
        challenge = driver.state.title.challenge
        if challenge is not None and sum(map(len, challenge.fresh.values())) == 1:
            raise Killed

    config = Config(**KEYS)
    driver = Driver(config, ScriptedCluster(noisy), store, Origin(RUN), watch=die)
    driver.begin(SEED_SOURCE)
    with pytest.raises(Killed):
        driver.run()
    before = driver.state.title.challenge
    assert before is not None
    store._release()
    with LineageStore.open(tmp_path) as store:
        folded = replay(store).state.title.challenge
        assert folded is not None
        assert (folded.challenger, folded.limit, folded.fresh) == (before.challenger, before.limit, before.fresh)
        driver = Driver(config, ScriptedCluster(noisy), store, Origin(RUN))
        driver.resume()
        driver.run()
        verdicts = [row for row in rows(store, "events") if row["kind"] == "verdict"]
        assert len(verdicts) == len([row for row in rows(store, "events") if row["kind"] == "challenge"])
        title = replay(store).state.title
        assert (title.holder, title.champion) == (driver.state.title.holder, driver.state.title.champion)
        assert driver.ledger.spent.experiments == 40


def test_confirm_trains_the_best_and_the_seed_on_fresh_seeds(tmp_path: Path) -> None:
    driver, store = evolve(tmp_path, noisy)
    before = {row["seed"] for row in rows(store, "experiments")}
    seen: list[str] = []
    found = confirm(
        driver.config, ScriptedCluster(noisy), store, Origin(RUN), 3, 4, lambda name, result: seen.append(name)
    )
    fresh = [row for row in rows(store, "experiments") if row["purpose"] == "confirmation"]
    assert len(fresh) == len(seen) == 4 * 4
    assert not {row["seed"] for row in fresh} & before
    seed, *best = found.variants
    assert seed.number == 0
    assert [len(variant.scores) for variant in found.variants] == [4] * 4
    assert all(variant.holdout == (2.0,) * 4 for variant in found.variants)
    assert [variant.before.mean for variant in best] == sorted(variant.before.mean for variant in best)
    assert best[0].gain is not None
    assert best[0].gain > 0.005
    assert best[0].p_better is not None
    assert best[0].p_better > 0.99
    assert found.sigma == pytest.approx(0.001, rel=0.6)


def test_confirm_trains_again_what_was_lost_and_counts_what_crashed(tmp_path: Path) -> None:
    driver, store = evolve(tmp_path, noisy)
    calls = 0

    def unlucky(experiment: Experiment) -> Result:
        nonlocal calls
        calls += 1
        if calls == 1:
            return Result(status=Status.LOST, reason="the machine went away")
        return Result(status=Status.CRASHED, reason="boom") if calls == 3 else noisy(experiment)

    found = confirm(driver.config, ScriptedCluster(unlucky), store, Origin(RUN), 1, 2)
    assert sum(len(variant.scores) + variant.failed for variant in found.variants) == 4
    assert sum(variant.failed for variant in found.variants) == 1


def test_confirm_of_a_run_without_a_score_is_refused(tmp_path: Path) -> None:
    with LineageStore.create(tmp_path / "run", RUN) as store:
        with pytest.raises(RunError, match="no finished experiment"):
            confirm(Config(), ScriptedCluster(), store, Origin(RUN), 3, 2)
        Driver(Config(), ScriptedCluster(), store, Origin(RUN)).begin(SEED_SOURCE)
        with pytest.raises(RunError, match="no finished experiment"):
            confirm(Config(), ScriptedCluster(), store, Origin(RUN), 3, 2)
