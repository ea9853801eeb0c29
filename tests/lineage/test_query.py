import math
from pathlib import Path

import numpy as np
import pytest
import synthetic

from autoresearch_ray.errors import RunError
from autoresearch_ray.lineage import schema
from autoresearch_ray.lineage.query import Lineage
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Result, Status, Variant

ORIGIN = synthetic.origin("run")


def record(store: LineageStore, born: Variant, *scores: float | None, status: Status = Status.COMPLETED) -> None:
    for replicate, score in enumerate(scores):
        result = Result(Status.COMPLETED if score is not None else Status.CRASHED, val_bpb=score)
        experiment = synthetic.experiment(born, replicate)
        store.append("experiments", schema.experiment_row(ORIGIN, experiment, result))
    store.append("variants", schema.variant_row(ORIGIN, born, status))
    store.commit()


@pytest.fixture
def family(tmp_path: Path) -> Path:
    """seed 0 -> 1, 2; 3 is a crossover of 1 and 2; 4 crashed (of 3); 5 looked ahead (of 3)."""
    seed = synthetic.variant(0, run="run")
    first, second = (synthetic.variant(number, (seed,), run="run") for number in (1, 2))
    both = synthetic.variant(3, (first, second), run="run")
    with LineageStore.create(tmp_path / "run", "run") as store:
        record(store, first, 1.8)  # ends before the seed
        record(store, seed, 2.0, 2.2, 1.8)
        record(store, second, 1.6, 1.4)
        record(store, both, 1.5)
        record(store, synthetic.variant(4, (both,), run="run"), None, status=Status.CRASHED)
        record(store, synthetic.variant(5, (both,), run="run"), 0.1, status=Status.REJECTED)
    return tmp_path / "run"


def number_of(lineage: Lineage, position: int | None) -> int | None:
    return None if position is None else lineage.row(position)["number"]


def at(lineage: Lineage, number: int) -> int:
    return lineage.column("number").index(number)


def test_scores_and_their_errors_come_from_the_pooled_noise(family: Path) -> None:
    lineage = Lineage.open(family)
    assert lineage.sigma == pytest.approx(math.sqrt((0.08 + 0.02) / 3))
    seed = lineage.score(at(lineage, 0))
    assert seed is not None
    assert (seed.mean, seed.count) == (pytest.approx(2.0), 3)
    assert seed.error == pytest.approx(lineage.sigma / math.sqrt(3))
    single = lineage.score(at(lineage, 1))
    assert single is not None
    assert single.error == pytest.approx(lineage.sigma)
    assert lineage.score(at(lineage, 4)) is None


def test_a_given_sigma_is_used(family: Path) -> None:
    score = Lineage.open(family, sigma=0.3).score(0)
    assert score is not None
    assert score.error == pytest.approx(0.3)


def test_without_replicates_the_noise_is_not_known(tmp_path: Path) -> None:
    with LineageStore.create(tmp_path / "run", "run") as store:
        record(store, synthetic.variant(0, run="run"), 2.0)
    lineage = Lineage.open(tmp_path / "run")
    assert lineage.sigma is None
    score = lineage.score(0)
    assert score is not None
    assert score.error is None
    assert lineage.gain_error(0, 0) is None


def test_gains_have_errors_of_both_sides(family: Path) -> None:
    lineage = Lineage.open(family)
    assert lineage.gain(at(lineage, 2), at(lineage, 0)) == pytest.approx(0.5)
    sigma = lineage.sigma or 0
    assert lineage.gain_error(at(lineage, 2), at(lineage, 0)) == pytest.approx(sigma * math.sqrt(1 / 2 + 1 / 3))
    assert lineage.gain(at(lineage, 4), at(lineage, 3)) is None
    assert lineage.gain_error(at(lineage, 4), at(lineage, 3)) is None
    assert lineage.gain(at(lineage, 0), -1) is None


def test_best_leaves_out_what_was_refused_however_low_its_score(family: Path) -> None:
    lineage = Lineage.open(family)
    assert [number_of(lineage, place) for place in lineage.best(10)] == [2, 3, 1, 0]
    assert [number_of(lineage, place) for place in lineage.best(2)] == [2, 3]
    assert number_of(lineage, lineage.leader) == 2
    assert lineage.champion is None


def test_the_champion_leads_though_another_mean_is_lower(family: Path) -> None:
    with LineageStore.open(family) as store:
        row = synthetic.champion_row(ORIGIN, synthetic.variant(3, run="run").variant_id, 1.5, synthetic.START)
        store.append("champions", row)
    lineage = Lineage.open(family)
    assert number_of(lineage, lineage.champion) == number_of(lineage, lineage.leader) == 3
    assert number_of(lineage, lineage.find("champion")) == 3


def test_records_are_what_a_greedy_climber_would_have_kept(family: Path) -> None:
    lineage = Lineage.open(family)
    assert [number_of(lineage, int(place)) for place in np.flatnonzero(lineage.records)] == [1, 2]


def test_descent_over_both_parents(family: Path) -> None:
    lineage = Lineage.open(family)

    def numbers(places: list[int]) -> list[int | None]:
        return sorted(number_of(lineage, place) or 0 for place in places)

    assert numbers(lineage.children(at(lineage, 0))) == [1, 2]
    assert numbers(lineage.children(at(lineage, 1))) == [3]
    assert numbers(lineage.ancestors(at(lineage, 4))) == [0, 1, 2, 3]
    assert numbers(lineage.descendants(at(lineage, 2))) == [3, 4, 5]
    assert numbers(lineage.descendants(at(lineage, 0))) == [1, 2, 3, 4, 5]
    assert [number_of(lineage, place) for place in lineage.path(at(lineage, 4))] == [0, 2, 3, 4]
    assert number_of(lineage, lineage.seed) == 0


def test_a_parent_without_a_row_yet_is_a_root(tmp_path: Path) -> None:
    seed = synthetic.variant(0, run="run")
    with LineageStore.create(tmp_path / "run", "run") as store:
        record(store, synthetic.variant(1, (seed,), run="run"), 1.0)
    lineage = Lineage.open(tmp_path / "run")
    assert lineage.path(0) == [0]
    assert lineage.seed is None
    with pytest.raises(RunError, match="no seed yet"):
        lineage.find("seed")


def test_an_empty_run_answers_everything(tmp_path: Path) -> None:
    LineageStore.create(tmp_path / "run", "run").close()
    lineage = Lineage.open(tmp_path / "run")
    assert (len(lineage), lineage.best(3), lineage.leader, lineage.seed, lineage.sigma) == (0, [], None, None, None)
    assert lineage.records.tolist() == []
    for name in ("best", "abc", ""):
        with pytest.raises(RunError):
            lineage.find(name)


def test_ids_are_found_by_their_beginning(family: Path) -> None:
    lineage = Lineage.open(family)
    for place, identity in enumerate(lineage.ids):
        assert lineage.find(identity) == lineage.find(identity[:7]) == lineage.find(identity[:7].upper()) == place
    assert number_of(lineage, lineage.find("seed")) == 0
    assert number_of(lineage, lineage.find("best")) == 2


def test_an_ambiguous_beginning_lists_some(tmp_path: Path) -> None:
    lineage = Lineage.open(synthetic.make(tmp_path / "run", 60))
    with pytest.raises(RunError, match=r"'1' is the beginning of \d+ ids: (1[0-9a-f]{11}, )+.* and \d+ more"):
        lineage.find("1")


def test_an_unknown_id_offers_near_ones(tmp_path: Path) -> None:
    lineage = Lineage.open(synthetic.make(tmp_path / "run", 60))
    identity = lineage.ids[17]
    typo = identity[:3] + ("0" if identity[3] != "0" else "1") + identity[4:8]
    with pytest.raises(RunError, match=rf"no variant '{typo}' in run; near ids: {identity}"):
        lineage.find(typo)
    with pytest.raises(RunError, match="near ids"):
        lineage.find("grüße" * 10)


def test_source_and_experiments_of_one_variant(family: Path) -> None:
    lineage = Lineage.open(family)
    assert lineage.source(at(lineage, 3)) == "x = 3\n"
    rows = lineage.experiments(at(lineage, 0))
    assert [row["val_bpb"] for row in rows] == [2.0, 2.2, 1.8]
    assert "log_tail" in rows[0]


# ------------------------------------------------------------------------------------------------------- finding runs


def test_a_glance_knows_what_an_opened_run_does(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path / "run", 30)
    opened, glance = Lineage.open(folder), Lineage.glance(folder)
    assert len(glance.tables.variants.column_names) < len(opened.tables.variants.column_names)
    assert glance.best(5) == opened.best(5)
    assert glance.sigma == opened.sigma
    assert (glance.leader, glance.seed, glance.champion) == (opened.leader, opened.seed, opened.champion)
    for position in range(len(opened)):
        assert glance.row(position) == opened.row(position)
        assert glance.experiments(position) == opened.experiments(position)
    assert glance.rows([3, -1], ["number"]) == [{"number": opened.row(3)["number"]}, {"number": None}]


def test_names_and_whole_ids_are_found_and_descendants_are_those_of_a_walk(tmp_path: Path) -> None:
    lineage = Lineage.open(synthetic.make(tmp_path / "run", 60))
    assert [lineage.find(name) for name in lineage.ids] == list(range(len(lineage)))
    for position in range(len(lineage)):
        found = {place for place in range(len(lineage)) if position in lineage.ancestors(place)}
        assert lineage.descendants(position) == sorted(found)
