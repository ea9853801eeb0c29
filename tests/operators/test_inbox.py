from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from requests_ import SEED, edit, request

from autoresearch_ray.config import OperatorConfig
from autoresearch_ray.errors import ConfigError
from autoresearch_ray.operators import dispatch
from autoresearch_ray.operators.inbox import Inbox
from autoresearch_ray.operators.proposal import Failure, Proposal

GOOD = edit("DEPTH = 3  # layers", "DEPTH = 4  # layers", "one more layer")
DEEPER = SEED.replace("DEPTH = 3 ", "DEPTH = 4 ")
NAME = f"{9:012d}"


def inbox(folder: Path, meanwhile: Callable[[int], None], seconds: float = 60) -> Inbox:
    """An inbox whose waiting is a test's turn: `meanwhile` is called with the number of the look."""
    looks = 0

    def sleep(_: float) -> None:
        nonlocal looks
        looks += 1
        assert looks < 200, "waits for ever"
        meanwhile(looks)

    return Inbox(folder, OperatorConfig(kind="inbox", timeout_seconds=seconds), 30_000, sleep)


def test_a_request_is_a_folder_and_its_answer_a_file(tmp_path: Path) -> None:
    def answer(look: int) -> None:
        folder = tmp_path / NAME
        if look == 1:
            asked = (folder / "request.md").read_text()
            assert all(part in asked for part in ("HYPOTHESIS:", "Lower is better", "def forward", "answer.md"))
            assert (folder / "train.py").read_text() == SEED
            (folder / "answer.md").write_text(GOOD)

    proposal = dispatch.propose(request(SEED), inbox(tmp_path, answer))
    assert isinstance(proposal, Proposal)
    assert (proposal.source, proposal.hypothesis, proposal.model) == (DEEPER, "one more layer", "inbox")
    assert (tmp_path / NAME / "answered-1.md").read_text() == GOOD


def test_a_whole_file_is_an_answer_too(tmp_path: Path) -> None:
    def answer(look: int) -> None:
        if look == 1:
            (tmp_path / NAME / "answer.py").write_text(f"# HYPOTHESIS: deeper\n{DEEPER}")

    proposal = dispatch.propose(request(SEED), inbox(tmp_path, answer))
    assert isinstance(proposal, Proposal)
    assert proposal.hypothesis == "deeper"
    assert "DEPTH = 4" in proposal.source


def test_an_answer_that_is_still_being_written_is_not_taken(tmp_path: Path) -> None:
    def answer(look: int) -> None:
        if look <= 5:
            (tmp_path / NAME / "answer.md").write_text(GOOD[: look * len(GOOD) // 5])

    proposal = dispatch.propose(request(SEED), inbox(tmp_path, answer))
    assert isinstance(proposal, Proposal)
    assert proposal.source == DEEPER


def test_a_bad_answer_is_sent_back_once_with_the_reason(tmp_path: Path) -> None:
    def answer(look: int) -> None:
        folder = tmp_path / NAME
        if look == 1:
            (folder / "answer.md").write_text("HYPOTHESIS: h\nDo more of it.")
        elif (folder / "refused.md").exists() and not (folder / "answer.md").exists():
            assert "neither a SEARCH/REPLACE block" in (folder / "refused.md").read_text()
            (folder / "answer.md").write_text(GOOD)

    proposal = dispatch.propose(request(SEED), inbox(tmp_path, answer))
    assert isinstance(proposal, Proposal)
    assert proposal.source == DEEPER


def test_an_answer_from_before_a_restart_counts(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "answer.md").write_text(GOOD)
    proposal = dispatch.propose(request(SEED), inbox(tmp_path, lambda look: None))
    assert isinstance(proposal, Proposal)


def test_nobody_waits_for_ever(tmp_path: Path) -> None:
    failure = dispatch.propose(request(SEED), inbox(tmp_path, lambda look: None, seconds=1e-9))
    assert isinstance(failure, Failure)
    assert failure.reason == f"Nobody answered the request in {tmp_path / NAME} within 1e-09 s."
    assert (tmp_path / f"{NAME}-expired" / "request.md").exists()


def test_a_run_that_ends_leaves_the_request_for_later(tmp_path: Path) -> None:
    waiting = inbox(tmp_path, lambda look: waiting.close())
    failure = dispatch.propose(request(SEED), waiting)
    assert isinstance(failure, Failure)
    assert failure.reason == "The run ended before the request was answered."
    assert (tmp_path / NAME / "request.md").exists()


def test_a_folder_that_cannot_be_made_is_said_before_the_first_birth(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"operator\.folder: .*inbox cannot be made"):
        inbox(tmp_path / "file" / "inbox", lambda look: None).check()
    inbox(tmp_path / "inbox", lambda look: None).check()
    assert (tmp_path / "inbox").is_dir()
