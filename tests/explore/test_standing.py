"""A champion is shown as its fresh trainings found it, not with the lucky score that made it a challenger."""

from __future__ import annotations

import dataclasses
import math

import pytest

from autoresearch_ray.explore.standing import standing
from autoresearch_ray.lineage.query import Lineage
from autoresearch_ray.lineage.schema import SCHEMAS


def test_a_champion_stands_on_its_fresh_trainings(lineage: Lineage) -> None:
    row = lineage.tables.champions.to_pylist()[-1]
    row |= {"trainings": 4, "posterior_mean": 3.5, "posterior_sd": 0.01}
    champions = type(lineage.tables.champions).from_pylist([row], schema=SCHEMAS["champions"])
    found = standing(Lineage(dataclasses.replace(lineage.tables, champions=champions)))
    assert found is not None
    assert found.confirmed
    assert found.score is not None
    assert (found.score.mean, found.score.count, found.score.error) == (3.5, 4, 0.01)
    seed = lineage.score(lineage.seed or 0)
    assert seed is not None
    assert seed.error is not None
    assert found.gain == pytest.approx(seed.mean - 3.5)
    assert found.gain_error == pytest.approx(math.hypot(0.01, seed.error))


def test_without_a_champion_the_best_stands_unconfirmed_on_all_its_trainings(lineage: Lineage) -> None:
    bare = Lineage(dataclasses.replace(lineage.tables, champions=lineage.tables.champions.slice(0, 0)))
    found = standing(bare)
    assert found is not None
    assert not found.confirmed
    assert found.position == bare.best(1)[0]
    assert found.score == bare.score(found.position)
    assert found.gain == pytest.approx(bare.gain(found.position, bare.seed or 0))
