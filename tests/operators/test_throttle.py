from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from autoresearch_ray.operators.throttle import WINDOW_SECONDS, Throttle


def windows(starts: list[tuple[float, int]]) -> list[list[int]]:
    """Return the sizes within the 60 seconds that begin with each call."""
    return [[size for other, size in starts if begun <= other < begun + WINDOW_SECONDS - 1e-6] for begun, _ in starts]


def test_without_limits_nobody_waits() -> None:
    throttle = Throttle(None, None)
    assert [throttle.book(5.0, 10**6) for _ in range(100)] == [5.0] * 100


def test_so_many_calls_in_any_minute() -> None:
    throttle = Throttle(3, None)
    assert [throttle.book(10.0, 1) for _ in range(7)] == [10.0] * 3 + [70.0] * 3 + [130.0]
    assert throttle.book(500.0, 1) == 500.0


@pytest.mark.parametrize("seed", range(5))
def test_no_minute_holds_more_than_is_allowed(seed: int) -> None:
    rng = random.Random(seed)
    throttle, now, starts = Throttle(5, 1000), 0.0, []
    for _ in range(200):
        now += rng.choice((0.0, 0.1, 7.0, 40.0))
        size = rng.randrange(1, 500)
        start = throttle.book(now, size)
        assert start >= now
        starts.append((start, size))
    assert starts == sorted(starts, key=lambda pair: pair[0])
    assert all(len(sizes) <= 5 and sum(sizes) <= 1000 for sizes in windows(starts))
    # and no call waits for nothing: each later one is at the limit one moment earlier
    assert max(len(sizes) for sizes in windows(starts)) == 5


def test_a_call_beyond_the_limit_has_a_minute_to_itself() -> None:
    throttle = Throttle(None, 100)
    assert throttle.book(0.0, 50) == 0.0
    assert throttle.book(0.0, 900) == WINDOW_SECONDS
    assert throttle.book(0.0, 1) == 2 * WINDOW_SECONDS


def test_a_provider_that_asks_for_a_pause_is_heeded_by_all() -> None:
    throttle = Throttle(None, None)
    throttle.hold(30.0)
    throttle.hold(20.0)
    assert throttle.book(5.0, 1) == 30.0
    assert throttle.book(31.0, 1) == 31.0


def test_threads_do_not_book_the_same_place() -> None:
    throttle = Throttle(4, None)
    with ThreadPoolExecutor(16) as pool:
        starts = sorted(pool.map(lambda _: throttle.book(0.0, 1), range(64)))
    assert starts == [WINDOW_SECONDS * (number // 4) for number in range(64)]
