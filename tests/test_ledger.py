import pytest

from autoresearch_ray.config import Config
from autoresearch_ray.ledger import Ledger, Limits


def test_a_birth_reserves_itself_and_its_first_experiment() -> None:
    ledger = Ledger(Limits(experiments=2))
    assert ledger.reserve_birth()
    assert ledger.reserve_birth()
    assert not ledger.reserve_birth()
    assert ledger.spent.births == 2
    assert ledger.reserved_experiments == 2
    assert ledger.closed


def test_a_rejected_birth_gives_its_experiment_back() -> None:
    ledger = Ledger(Limits(experiments=1))
    assert ledger.reserve_birth()
    ledger.release_experiment()
    assert not ledger.closed
    assert ledger.reserve_birth()
    assert ledger.spent.births == 2


def test_spent_and_reserved_never_pass_the_limit() -> None:
    ledger = Ledger(Limits(experiments=5))
    started = 0
    for turn in range(40):
        if ledger.reserve_experiment():
            started += 1
        if turn % 3 == 0 and ledger.reserved_experiments:
            ledger.settle_experiment(1.0, 2.0)
        assert ledger.spent.experiments + ledger.reserved_experiments <= 5
    assert started == 5


def test_a_lost_experiment_costs_slot_time_but_does_not_count() -> None:
    ledger = Ledger(Limits(experiments=1))
    ledger.reserve_experiment()
    ledger.settle_experiment(0.0, 7.0, lost=True)
    assert ledger.spent.experiments == 0
    assert ledger.spent.slot_seconds == 7.0
    assert ledger.reserve_experiment()


def test_max_births_counts_births_that_were_never_trained() -> None:
    ledger = Ledger(Limits(births=2))
    for _ in range(2):
        assert ledger.reserve_birth()
        ledger.release_experiment()
    assert not ledger.reserve_birth()


def test_no_start_after_the_hours_are_over() -> None:
    ledger = Ledger(Limits(hours=1.0))
    assert ledger.reserve_experiment()
    ledger.clock(1.0)
    assert ledger.closed
    assert not ledger.reserve_experiment()


def test_nothing_to_release_is_a_defect_of_the_caller() -> None:
    with pytest.raises(ValueError, match="no experiment is reserved"):
        Ledger(Limits()).release_experiment()


def test_births_default_to_twenty_times_the_experiments() -> None:
    assert Limits.of(Config(max_experiments=10)).births == 200
    assert Limits.of(Config(max_experiments=10, max_births=15)).births == 15
    assert Limits.of(Config(max_experiments=None, max_hours=1)).births is None


def test_operators_are_paid_in_tokens_and_dollars() -> None:
    ledger = Ledger(Limits())
    ledger.settle_operator(100, 20, 0.5)
    ledger.settle_operator(1, 2, 0.25)
    assert (ledger.spent.tokens_in, ledger.spent.tokens_out, ledger.spent.usd) == (101, 22, 0.75)
