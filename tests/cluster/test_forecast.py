from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from autoresearch_ray.cluster.calibrated import CALIBRATED
from autoresearch_ray.cluster.forecast import FEWEST, LARGEST, MARKS, Forecast, Night, Outlook, forecast
from autoresearch_ray.cluster.simulated import World, workers
from autoresearch_ray.config import Config
from autoresearch_ray.errors import ClusterError

NIGHT = Night((4,), 0.5, Config(), World(CALIBRATED, workers(4)))


def outlook(size: int, last: list[float]) -> Outlook:
    return Outlook(size, np.column_stack([np.full(len(last), 1.0), last]))


def test_a_night_is_simulated_whole_unless_it_has_too_many_experiments() -> None:
    assert NIGHT.simulated_hours == 0.5
    assert round(NIGHT.experiments) == 21
    long = Night((4,), 24.0, Config(), World(CALIBRATED, workers(1000)))
    assert long.simulated_hours == 24.0 * LARGEST / long.experiments < 1.0


def test_short_nights_have_time_for_the_operator_that_learns() -> None:
    assert NIGHT.learns
    assert not Night((4,), 8.0, Config(), World(CALIBRATED, workers(4))).learns


def test_greedy_is_always_among_the_sizes_and_all_are_simulated_as_often() -> None:
    rounds = list(forecast(NIGHT, seconds=0.0, processes=1))
    last = rounds[-1]
    assert [each.population_size for each in last.outlooks] == [1, 4]
    assert [each.searches for each in rounds] == list(range(2, FEWEST + 1))
    assert {each.truths.shape for each in last.outlooks} == {(FEWEST, MARKS)}
    assert last.start == CALIBRATED.score(CALIBRATED.seed)
    for each in last.outlooks:
        assert each.expected[-1] < last.start
        assert (each.quantile(0.1) <= each.quantile(0.9)).all()


def test_the_smallest_size_that_nothing_surely_beats_is_recommended() -> None:
    clear = Forecast((1.0, 2.0), (outlook(1, [0.98, 0.981, 0.979]), outlook(8, [0.97, 0.971, 0.969])), 1.0)
    assert clear.recommended.population_size == 8
    noisy = Forecast((1.0, 2.0), (outlook(1, [0.99, 0.96, 0.98]), outlook(8, [0.97, 0.985, 0.973])), 1.0)
    assert noisy.recommended.population_size == 1


def test_the_interval_narrows_with_more_searches() -> None:
    few, many = outlook(4, [0.97, 0.98] * 2), outlook(4, [0.97, 0.98] * 20)
    assert many.expected[-1] == pytest.approx(few.expected[-1])
    assert many.uncertainty[-1] < 0.4 * few.uncertainty[-1]


class Fatal(Config):
    """Ends the process that reads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (9,)


def test_a_process_that_is_ended_from_outside_is_a_sentence() -> None:
    with pytest.raises(ClusterError, match="ended from outside"):
        list(forecast(replace(NIGHT, config=Fatal()), seconds=0.0, processes=1))
