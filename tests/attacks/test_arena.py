"""The harness itself: an attempt that works is told from one that does not, and honest training goes on after both."""

from __future__ import annotations

from pathlib import Path

from arena import HONEST, Arena

from autoresearch_ray.variant import Status

TRIES = """
attempt("adds", lambda: 1 + FACTS["one"])
attempt("divides", lambda: 1 / 0)
attempt("child", lambda: in_child(lambda: 7))
attempt("failing child", lambda: in_child(lambda: 1 / 0))
attempt("dead child", lambda: in_child(lambda: os._exit(3)))
"""


def test_attempts_are_told_apart(unwalled: Arena) -> None:
    seen = unwalled.attack(TRIES, one=1)
    assert seen.done() == {"adds": "2", "child": "7"}
    assert seen.refused() == {
        "divides": "ZeroDivisionError: division by zero",
        "failing child": "OSError: ZeroDivisionError: division by zero",
        "dead child": "OSError: ended with 3",
    }
    seen.assert_trained_honestly()


def test_an_honest_program_is_scored_alike_with_and_without_walls(walled: Arena, unwalled: Arena) -> None:
    results = [
        arena.run(HONEST.replace("for x, y in loader:", "for x, y in [next(loader)]:")) for arena in (walled, unwalled)
    ]
    assert [result.status for result in results] == [Status.COMPLETED] * 2
    assert results[0].val_bpb == results[1].val_bpb


def test_the_secret_outside_is_one_that_modes_do_not_hide(unwalled: Arena, outside: Path) -> None:
    seen = unwalled.attack("attempt('read', lambda: open(FACTS['secret']).read())", secret=outside / "secret")
    assert seen.done() == {"read": "'sk-outside'"}
