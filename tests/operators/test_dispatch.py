"""Which operator does what, who stands in for language models, and what is looked at before a slot is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from requests_ import SEED, edit, idea, request

from autoresearch_ray.operators import dispatch
from autoresearch_ray.operators.aids import Aids
from autoresearch_ray.operators.ensemble import CallFailed
from autoresearch_ray.operators.llm import Reply
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.operators.reflection import notes_of
from autoresearch_ray.operators.request import Crash, Message, Request
from autoresearch_ray.operators.transcripts import Exchange
from autoresearch_ray.variant import Operator, Usage

COST = Usage(100, 10, 0.5)
DOWN = CallFailed("No language model answers.", Usage(5, 0, 0.1), down=True)
GOOD = edit("DEPTH = 3  # layers", "DEPTH = 4  # layers")
BETTER = edit("DEPTH = 3  # layers", "DEPTH = 5  # layers")
WIDER = SEED.replace("WIDTH = 64 ", "WIDTH = 96 ")
DEEPER = SEED.replace("DEPTH = 3 ", "DEPTH = 4 ")
DEEPEST = SEED.replace("DEPTH = 3 ", "DEPTH = 6 ")


class Scripted:
    """Answers from a list; counts a character as a token."""

    max_prompt_tokens = 200_000
    edits = False

    def __init__(self, *answers: str | CallFailed) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[Message, ...]] = []

    def count(self, messages: Sequence[Message]) -> int:
        return sum(len(message.content) for message in messages)

    def ask(
        self, messages: Sequence[Message], rng: np.random.Generator, model: str | None = None
    ) -> Reply | CallFailed:
        self.asked.append(tuple(messages))
        answer = self.answers.pop(0)
        return Reply(answer, "scripted", COST) if isinstance(answer, str) else answer


def proposal(answer: Proposal | Failure) -> Proposal:
    assert isinstance(answer, Proposal), answer
    return answer


# --------------------------------------------------------------------------------------------------------- who is asked


def test_mutations_and_repairs_ask() -> None:
    asks = Scripted(GOOD)
    assert proposal(dispatch.propose(request(SEED), asks)).model == "scripted"
    crashed = request(SEED.replace("DEPTH = 3 ", "DEPTH = -3 "), crash=Crash("RuntimeError: no", "Traceback"))
    crashed = replace(crashed, birth=replace(crashed.birth, operator=Operator.REPAIR))
    asks = Scripted(edit("DEPTH = -3  # layers", "DEPTH = 2  # layers"))
    mended = proposal(dispatch.propose(crashed, asks))
    assert "DEPTH = 2 " in mended.source
    assert "RuntimeError: no" in asks.asked[0][1].content


@pytest.mark.parametrize("language", [True, False])
def test_parents_that_can_be_merged_cost_nothing(language: bool) -> None:
    asks = Scripted()
    for number in range(1, 20):
        asked = request(DEEPER, WIDER, number=number, language=language)
        merged = proposal(dispatch.propose(asked, asks, Aids(reasoned_crossovers=0.0)))
        assert merged.model is None
        assert "DEPTH = 4 " in merged.source
        assert "WIDTH = 96 " in merged.source
    assert asks.asked == []


def test_parents_that_changed_the_same_are_reasoned_about() -> None:
    crossed = edit("DEPTH = 4  # layers", "DEPTH = 5  # layers")
    asks = Scripted(crossed)
    assert proposal(dispatch.propose(request(DEEPER, DEEPEST), asks, Aids(reasoned_crossovers=0.0))).model == "scripted"
    offline = dispatch.propose(request(DEEPER, DEEPEST, language=False), Scripted())
    assert isinstance(offline, Failure) or offline.model is None


def test_a_share_of_the_mergeable_is_reasoned_about_all_the_same() -> None:
    models = []
    for number in range(1, 41):
        asks = Scripted(edit("WARMDOWN = 0.5  # the learning rate falls linearly ...", "WARMDOWN = 0.6"))
        asked = request(DEEPER, WIDER, number=number)
        models.append(proposal(dispatch.propose(asked, asks, Aids(reasoned_crossovers=0.5))).model)
    assert 10 <= models.count("scripted") <= 30


def test_an_operator_without_the_parents_that_it_needs_is_refused() -> None:
    for wrong in (request(SEED, language=False), request(DEEPER, WIDER, ancestor=None, language=False)):
        with pytest.raises(ValueError, match="cannot breed from"):
            dispatch.propose(wrong)


# ------------------------------------------------------------------------------------------------------------ stand-ins


def test_with_every_model_down_numbers_are_turned_and_it_is_said_why() -> None:
    answer = proposal(dispatch.propose(request(SEED), Scripted(DOWN)))
    assert answer.operator is Operator.PARAMETERS
    assert answer.model is None
    assert answer.unasked == DOWN.reason
    assert answer.usage == DOWN.usage
    assert answer.source != SEED
    merged = proposal(dispatch.propose(request(DEEPER, WIDER), Scripted(DOWN), Aids(reasoned_crossovers=1.0)))
    assert (merged.operator, merged.unasked) == (Operator.CROSSOVER, DOWN.reason)


def test_nobody_stands_in_for_a_repair_or_where_nothing_can_be_turned() -> None:
    asked = request(SEED, crash=Crash("no", ""))
    asked = replace(asked, birth=replace(asked.birth, operator=Operator.REPAIR))
    assert dispatch.propose(asked, Scripted(DOWN)) == Failure(DOWN.reason, DOWN.usage)
    failed = dispatch.propose(request("from prepare import make_dataloader, evaluate_bpb\n"), Scripted(DOWN))
    assert isinstance(failed, Failure)
    assert failed.reason.startswith(DOWN.reason)
    assert failed.usage == DOWN.usage


def test_a_single_failure_is_a_failure() -> None:
    gone = CallFailed("scripted: no.", Usage(0, 0, 0.1))
    assert dispatch.propose(request(SEED), Scripted(gone)) == Failure("scripted: no.", gone.usage)


# ------------------------------------------------------------------------------------------------ looking before a slot


def no_fours(source: str) -> str | None:
    return "it would not fit" if "DEPTH = 4 " in source else None


def test_what_cannot_be_built_goes_back_once() -> None:
    asks = Scripted(GOOD, BETTER)
    answer = proposal(dispatch.propose(request(SEED), asks, Aids(build=no_fours)))
    assert "DEPTH = 5 " in answer.source
    assert answer.refusal is None
    assert "With your change, it would not fit." in asks.asked[1][-1].content


def test_what_cannot_be_built_twice_is_rejected_with_its_source() -> None:
    answer = proposal(dispatch.propose(request(SEED), Scripted(GOOD, GOOD), Aids(build=no_fours)))
    assert answer.refusal == "it would not fit"
    assert "DEPTH = 4 " in answer.source


def test_where_trainings_are_dear_offline_proposals_are_built_too_and_drawn_again() -> None:
    seen: list[str] = []

    def third(source: str) -> str | None:
        seen.append(source)
        return None if len(seen) == 3 else "no"

    asked = request(SEED, language=False)
    asked = replace(asked, birth=replace(asked.birth, operator=Operator.PARAMETERS))
    answer = proposal(dispatch.propose(asked, None, Aids(build=third, builds_everything=True)))
    assert answer.source == seen[2]
    assert answer.refusal is None
    assert len(set(seen)) == 3
    refused = proposal(dispatch.propose(asked, None, Aids(build=lambda _: "no", builds_everything=True)))
    assert refused.refusal == "no"
    assert proposal(dispatch.propose(asked, None, Aids(build=lambda _: "no"))).refusal is None


def test_a_duplicate_goes_back_before_it_costs_anything_more() -> None:
    aids = Aids()
    dispatch.propose(request(SEED, number=1), Scripted(GOOD), aids)
    asks = Scripted(GOOD, BETTER)
    answer = proposal(dispatch.propose(request(SEED, number=2), asks, aids))
    assert "DEPTH = 5 " in answer.source
    assert "duplicate: the same program as 000000" in asks.asked[1][-1].content
    again = proposal(dispatch.propose(request(SEED, number=3), Scripted(GOOD, GOOD), aids))
    assert again.refusal == "duplicate: the same program as 000000"


def test_a_failed_idea_on_another_parent_is_accepted_when_insisted_on() -> None:
    aids = Aids()
    first = proposal(dispatch.propose(request(SEED, number=1), Scripted(GOOD), aids))
    assert first.refusal is None
    asked = request(WIDER, number=2, ideas=(idea(f"{1:012d}"),))
    asked = replace(
        asked, parents=(replace(asked.parents[0], variant=replace(asked.parents[0].variant, birth=asked.birth)),)
    )
    asks = Scripted(GOOD, GOOD)
    answer = proposal(dispatch.propose(asked, asks, aids))
    assert "Take care: nearly the same change failed on another parent" in asks.asked[1][-1].content
    assert answer.refusal is None
    assert "DEPTH = 4 " in answer.source


# ----------------------------------------------------------------------------------------------------------- reflection


def reflecting(**changes: object) -> Request:
    return request(SEED, ideas=(idea("a" * 12),), reflect=True, notes="- old", **changes)


def test_a_reflection_is_asked_first_and_its_notes_are_told_and_returned() -> None:
    asks = Scripted("- new thing\n* other thing\nand so on", GOOD)
    answer = proposal(dispatch.propose(reflecting(), asks))
    assert answer.notes == "- new thing\n- other thing"
    assert answer.usage == Usage(200, 20, 1.0)
    reflected, asked = asks.asked
    assert "Write the notes anew." in reflected[1].content
    assert "- old" in reflected[1].content
    assert "- new thing" in asked[1].content
    assert "- old" not in asked[1].content


def test_a_reflection_that_fails_leaves_the_notes_as_they_were() -> None:
    for bad in ("I have no notes.", CallFailed("no", COST)):
        asks = Scripted(bad, GOOD)
        answer = proposal(dispatch.propose(reflecting(), asks))
        assert answer.notes is None
        assert answer.usage == Usage(200, 20, 1.0)
        assert "- old" in asks.asked[1][1].content
    asks = Scripted(GOOD)
    dispatch.propose(request(SEED, reflect=True), asks)
    assert len(asks.asked) == 1  # nothing has been tried yet


def test_notes_are_a_few_lines() -> None:
    assert notes_of("<think>\n- not this\n</think>\n- a\n\n- b") == "- a\n- b"
    assert notes_of("no") is None
    assert len((notes_of("\n".join(["- x" * 500] * 50)) or "").splitlines()) == 12


# ---------------------------------------------------------------------------------------------------------- transcripts


def test_everything_asked_and_answered_is_kept() -> None:
    kept: list[Exchange] = []
    aids = Aids(keep=kept.append)
    asks = Scripted("- n", "nonsense", GOOD, "nonsense", CallFailed("no", COST, attempts=("a", "b")))
    answer = proposal(dispatch.propose(reflecting(number=1), asks, aids))
    dispatch.propose(request(SEED, number=2), asks, aids)
    assert [(each.number, each.purpose, each.model) for each in kept] == [
        (1, "reflection", "scripted"),
        (1, "mutation", "scripted"),
        (1, "mutation", "scripted"),
        (2, "mutation", "scripted"),
        (2, "mutation", "nobody"),
    ]
    assert kept[2].prompt_hash == answer.prompt_hash
    assert kept[2].reply == GOOD
    assert kept[2].messages[:2] == kept[1].messages
    assert (kept[4].reply, kept[4].failure, kept[4].attempts) == (None, "no", ("a", "b"))
    assert sum(each.usage.usd for each in kept) == 2.5
