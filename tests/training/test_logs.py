from __future__ import annotations

import pytest

from autoresearch_ray.training.logs import TAIL_BYTES, LogTail, last_exception, printable, reason_of_exit


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain\n\ttext", "plain\n\ttext"),
        ("step 1\rstep 2\rstep 3\ndone\r\n", "step 3\ndone\n"),
        ("\x1b[31mred\x1b[0m \x1b[2J\x1b[10;3Hx", "red x"),
        ("\x1b]0;a new title\x07y\x1b]8;;http://x\x1b\\link", "ylink"),
        ("\x1bcreset \x1b(B\x9b31mz", "reset z"),
        ("a\x00b\x08c\x7fd\x85e", "abcde"),
        ("right\u202eto left\u200b", "rightto left"),
        ("[bold]markup[/bold] äöü 漢", "[bold]markup[/bold] äöü 漢"),
    ],
)
def test_what_moves_a_terminal_is_gone(raw: str, shown: str) -> None:
    assert printable(raw) == shown


def test_the_tail_is_kept_whatever_comes() -> None:
    log = LogTail()
    for i in range(3000):
        log.feed(b"%06d " % i * 100)
        assert len(log._kept) <= 2 * 65_536
    log.feed("the end äö\xff".encode())
    text = log.text()
    assert text.endswith("the end äöÿ")
    assert len(text.encode()) <= TAIL_BYTES


def test_a_cut_character_does_not_harm() -> None:
    log = LogTail()
    log.feed("ä".encode() * TAIL_BYTES + b"x")
    assert set(log.text()) == {"ä", "x"}


TRACEBACK = """step 3
Traceback (most recent call last):
  File "train.py", line 2, in <module>
    import nothing
ModuleNotFoundError: No module named 'nothing'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "train.py", line 5, in <module>
    raise ValueError("first line\\n  second line")
ValueError: first line
  second line
"""


@pytest.mark.parametrize(
    ("code", "log", "reason"),
    [
        (1, TRACEBACK, "ValueError: first line"),
        (1, "sorry\n", "exited with code 1"),
        (3, "", "exited with code 3"),
        (0, "done\n", "ended without calling evaluate_bpb"),
        (-9, TRACEBACK, "killed by SIGKILL (out of memory?)"),
        (-11, "", "killed by SIGSEGV"),
        (-63, "", "killed by signal 63"),
    ],
)
def test_the_reason_of_an_exit(code: int, log: str, reason: str) -> None:
    assert reason_of_exit(code, log) == reason


def test_a_reason_is_one_line_of_bounded_length() -> None:
    found = last_exception("Traceback (most recent call last):\n  File\nValueError: " + "x" * 5000)
    assert found is not None
    assert len(found) == 300
    assert last_exception("Traceback (most recent call last):\n  File") is None
