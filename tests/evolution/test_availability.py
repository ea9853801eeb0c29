from autoresearch_ray.evolution.availability import FAILURES, LONGEST_PAUSE_SECONDS, PAUSE_SECONDS, Availability
from autoresearch_ray.ledger import Ledger, Limits


def test_without_models_a_search_is_offline() -> None:
    assert not Availability(0, 0.0).now(0.0, Ledger(Limits()), 0)
    assert Availability(1, 0.0).now(0.0, Ledger(Limits()), 0)


def test_what_may_be_spent_counts_those_that_ask_already_at_their_dearest() -> None:
    ledger = Ledger(Limits(usd=1.0))
    models = Availability(1, call_usd=0.1)
    assert models.now(0.0, ledger, 4)
    assert not models.now(0.0, ledger, 5)
    ledger.settle_operator(0, 0, 0.85)
    assert not models.now(0.0, ledger, 0)


def test_an_agent_may_cost_as_much_as_the_dearest_so_far() -> None:
    ledger = Ledger(Limits(usd=1.0))
    agents = Availability(1, call_usd=0.0)
    agents.paid(0.3)
    agents.paid(0.1)
    assert agents.now(0.0, ledger, 2)
    assert not agents.now(0.0, ledger, 3)
    ledger.settle_operator(0, 0, 0.8)
    assert not agents.now(0.0, ledger, 0)


def test_models_that_fail_in_a_row_are_left_alone_for_a_while_and_longer_each_time() -> None:
    ledger = Ledger(Limits())
    models = Availability(1, 0.0)
    for _ in range(FAILURES - 1):
        models.answered(False, 0.0)
    assert models.now(0.0, ledger, 0)
    models.answered(False, 0.0)
    assert models.down
    assert not models.now(PAUSE_SECONDS - 1, ledger, 0)
    assert models.now(PAUSE_SECONDS, ledger, 0)
    models.answered(False, PAUSE_SECONDS)
    assert not models.now(3 * PAUSE_SECONDS - 1, ledger, 0)
    for _ in range(20):
        models.answered(False, 0.0)
    assert models.now(LONGEST_PAUSE_SECONDS, ledger, 0)


def test_one_answer_ends_a_pause() -> None:
    models = Availability(1, 0.0)
    for _ in range(FAILURES):
        models.answered(False, 0.0)
    models.answered(True, 1.0)
    assert not models.down
    assert models.now(1.0, Ledger(Limits()), 0)
