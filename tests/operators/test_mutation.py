from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import llm_server
import numpy as np
import pytest

from autoresearch_ray.config import LlmConfig, ModelConfig
from autoresearch_ray.operators import mutation, prompt
from autoresearch_ray.operators.aids import Aids
from autoresearch_ray.operators.ensemble import CallFailed, LanguageModels
from autoresearch_ray.operators.llm import Reply
from autoresearch_ray.operators.mutation import Asks
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.operators.request import Contract, Message, Parent, Request
from autoresearch_ray.training import preflight
from autoresearch_ray.variant import Birth, Operator, Usage, Variant

ROOT = Path(__file__).parents[2]
SEED = (ROOT / "seed_model" / "train.py").read_text(encoding="utf-8")
PROGRAM = (ROOT / "program.md").read_text(encoding="utf-8")
COST = Usage(100, 10, 0.5)


class Scripted:
    """Answers from a list; counts a character as a token."""

    max_prompt_tokens = 100_000
    edits = False

    def __init__(self, *answers: str | Reply | CallFailed) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[Message, ...]] = []
        self.named: list[str | None] = []

    def count(self, messages: Sequence[Message]) -> int:
        return sum(len(message.content) for message in messages)

    def ask(
        self, messages: Sequence[Message], rng: np.random.Generator, model: str | None = None
    ) -> Reply | CallFailed:
        self.asked.append(tuple(messages))
        self.named.append(model)
        answer = self.answers.pop(0)
        return Reply(answer, "scripted", COST) if isinstance(answer, str) else answer


def edit(old: str, new: str) -> str:
    return f"HYPOTHESIS: {old} becomes {new}\n<<<<<<< SEARCH\n{old}\n=======\n{new}\n>>>>>>> REPLACE\n"


def parent(number: int, source: str) -> Parent:
    birth = Birth(number, f"{number:x}" * 12, 0, Operator.SEED, 0)
    return Parent(Variant(birth, (), 0, source, "h", datetime(2026, 1, 1, tzinfo=timezone.utc)), 1.0, 0.01, 2)


def request(*sources: str, contract: Contract | None = None) -> Request:
    operator = Operator.MUTATION if len(sources) == 1 else Operator.CROSSOVER
    birth = Birth(9, "9" * 12, 0, operator, 7)
    parents = tuple(parent(number, source) for number, source in enumerate(sources, 1))
    ancestor = None if len(sources) == 1 else parent(0, SEED).variant
    return Request(birth, parents, ancestor, PROGRAM, (), (), contract or Contract())


def propose(
    asked: Request, asks: Asks, rng: np.random.Generator, aids: Aids | None = None
) -> Proposal | Failure | CallFailed:
    return mutation.propose(asked, asks, rng, aids or Aids())


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


GOOD = edit("DEPTH = 3  # layers", "DEPTH = 4  # layers")
NO_PLACE = edit("DEPTH = 9", "DEPTH = 4")
NO_SYNTAX = edit("DEPTH = 3  # layers", "DEPTH = = 4")
NO_CONTRACT = "HYPOTHESIS: cheat\n```python\nprint('val_bpb: 0.1')\n```\n"
NO_CHANGE = edit("DEPTH = 3  # layers", "DEPTH = 3  # many layers")


def test_a_good_reply_becomes_a_proposal() -> None:
    asked = request(SEED)
    models = Scripted(GOOD)
    proposal = propose(asked, models, rng())
    assert proposal == Proposal(
        SEED.replace("DEPTH = 3 ", "DEPTH = 4 "),
        "DEPTH = 3 # layers becomes DEPTH = 4 # layers",
        model="scripted",
        prompt_hash=prompt.prompt_hash(prompt.messages(asked)),
        program_hash=prompt.program_hash(PROGRAM),
        usage=COST,
    )
    assert models.asked == [prompt.messages(asked)]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (NO_PLACE, "Block 1 of 1: its SEARCH lines are not in the program"),
        (NO_SYNTAX, "With your change, the source does not parse: invalid syntax (line "),
        (NO_CONTRACT, "With your change, the source does not use make_dataloader and evaluate_bpb of prepare.py."),
        (NO_CHANGE, "it is the same program as a parent"),
        ("I would rather not.", "neither a SEARCH/REPLACE block nor a whole file"),
        (Reply(GOOD, "scripted", COST, cut=True), "The reply was cut off at its longest length"),
    ],
)
def test_a_bad_reply_is_answered_once_with_the_exact_reason(bad: str | Reply, reason: str) -> None:
    models = Scripted(bad, GOOD)
    proposal = propose(request(SEED), models, rng())
    assert isinstance(proposal, Proposal)
    assert "DEPTH = 4" in proposal.source
    assert proposal.usage == Usage(200, 20, 1.0)
    first, second = models.asked
    assert second[:2] == first
    assert [message.role for message in second] == ["system", "user", "assistant", "user"]
    assert second[2].content == (bad if isinstance(bad, str) else bad.text)
    assert reason in second[3].content
    assert proposal.prompt_hash == prompt.prompt_hash(second)
    assert models.named == [None, "scripted"]


def test_a_second_reply_without_a_place_is_a_failure_that_is_paid_for() -> None:
    failure = propose(request(SEED), Scripted(NO_SYNTAX, NO_PLACE, GOOD), rng())
    assert isinstance(failure, Failure)
    assert "scripted gave no usable reply, asked twice. Block 1 of 1: its SEARCH lines are not" in failure.reason
    assert failure.usage == Usage(200, 20, 1.0)
    assert failure.model == "scripted"  # who answered nonsense is dear, not down
    assert failure.prompt_hash
    assert failure.program_hash == prompt.program_hash(PROGRAM)


def test_a_second_reply_that_does_not_pass_is_left_to_be_rejected_with_its_source() -> None:
    proposal = propose(request(SEED), Scripted(NO_PLACE, NO_SYNTAX), rng())
    assert isinstance(proposal, Proposal)
    assert preflight.refusal(proposal.source)


def test_a_failed_call_is_a_failure() -> None:
    gone = CallFailed("nobody answers", Usage(0, 0, 0.1))
    assert propose(request(SEED), Scripted(gone), rng()) == Failure("nobody answers", gone.usage)
    failure = propose(request(SEED), Scripted(NO_PLACE, gone), rng())
    assert isinstance(failure, Failure)
    assert failure.reason.startswith("Block 1 of 1")
    assert failure.reason.endswith("Asked again: nobody answers")
    assert failure.usage == Usage(100, 10, 0.6)
    assert failure.model is None


def test_a_prompt_that_cannot_be_made_short_enough_is_not_sent() -> None:
    models = Scripted(GOOD)
    models.max_prompt_tokens = 5000
    failure = propose(request(SEED), models, rng())
    assert isinstance(failure, Failure)
    assert "llm.max_prompt_tokens allows 5000" in failure.reason
    assert models.asked == []


def test_what_a_program_must_be_is_for_the_caller_to_say() -> None:
    contract = Contract("solve.py", "accuracy", "maximize", scored=False)
    inspect = partial(preflight.inspect_reported, name="solve.py")
    proposal = propose(
        request("x = 3\n", contract=contract), Scripted(edit("x = 3", "x = 4")), rng(), Aids(inspect=inspect)
    )
    assert isinstance(proposal, Proposal)
    assert proposal.source == "x = 4\n"


# ------------------------------------------------------------------------------------ with LiteLLM and a server's model


def real(server: llm_server.Server) -> Asks:
    model = ModelConfig(name="openai/test", usd_per_million_input=1, usd_per_million_output=1)
    return LanguageModels(LlmConfig(models=(model,), api_base=server.api_base), {}, cap_usd=1.0)


def test_the_servers_model_mutates_the_seed_and_its_children(server: llm_server.Server) -> None:
    models, source, sources = real(server), SEED, set()
    for seed in range(12):
        proposal = propose(request(source), models, np.random.default_rng(seed))
        assert isinstance(proposal, Proposal)
        assert preflight.refusal(proposal.source) is None
        source = proposal.source
        sources.add(source)
    assert len(sources) == 12


def test_the_servers_model_crosses_over(server: llm_server.Server) -> None:
    first = SEED.replace("DEPTH = 3 ", "DEPTH = 4 ")
    second = SEED.replace("WARMDOWN = 0.5 ", "WARMDOWN = 0.75 ").replace("MATRIX_LR = 0.04", "MATRIX_LR = 0.05")
    proposal = propose(request(first, second), real(server), rng())
    assert isinstance(proposal, Proposal)
    assert "second parent" in proposal.hypothesis
    assert "DEPTH = 3 " in proposal.source or "WARMDOWN = 0.75" in proposal.source or "0.05" in proposal.source
    assert proposal.source not in (first, second)


def test_what_is_paid_is_what_the_server_counted_second_tries_included(server: llm_server.Server) -> None:
    models = real(server)
    server.script({"fault": "text", "text": NO_PLACE}, {"fault": "none"}, {"fault": "text", "text": "no"})
    answers = [propose(request(SEED), models, rng()) for _ in range(3)]
    counts = server.counts()
    assert counts["requests"] == 5
    assert sum(answer.usage.tokens_in for answer in answers) == counts["prompt_tokens"]
    assert sum(answer.usage.tokens_out for answer in answers) == counts["completion_tokens"]
    assert all(isinstance(answer, Proposal) for answer in answers)


def test_the_servers_model_edits_a_script_that_reports(server: llm_server.Server) -> None:
    contract = Contract("solve.py", "accuracy", "maximize", scored=False)
    inspect = partial(preflight.inspect_reported, name="solve.py")
    for source in ("x = 3\nprint(f'accuracy: {x}')\n", "print('accuracy: 1')\n"):
        proposal = propose(request(source, contract=contract), real(server), rng(), Aids(inspect=inspect))
        assert isinstance(proposal, Proposal)
        assert proposal.source != source
