"""Several models over real HTTP: fallbacks, the bench, rate limits, the bandit's choice, and what is cached."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import llm_server
import numpy as np
import pytest

from autoresearch_ray.config import LlmConfig, ModelConfig
from autoresearch_ray.operators.bench import FAILURES, FIRST_SECONDS
from autoresearch_ray.operators.ensemble import CallFailed, LanguageModels
from autoresearch_ray.operators.llm import Reply
from autoresearch_ray.operators.request import Message

PROMPT = (Message("system", "You are an operator."), Message("user", "Change the program."))
DOWN = {"fault": "status", "status": 500}


class Clock:
    """Time that passes by sleeping."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def config(name: str, **changes: Any) -> ModelConfig:
    return ModelConfig(
        **{"name": f"openai/{name}", "usd_per_million_input": 1, "usd_per_million_output": 4, "retries": 0, **changes}
    )


def ensemble(
    server: llm_server.Server,
    *models: ModelConfig,
    cap: float | None = None,
    training_usd: float = 0.1,
    **settings: Any,
) -> tuple[LanguageModels, Clock]:
    clock = Clock()
    made = LlmConfig(models=models, api_base=server.api_base, **settings)
    asked = LanguageModels(made, {}, cap_usd=cap, training_usd=training_usd, sleep=clock.sleep, clock=clock)
    return asked, clock


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def asked_for(server: llm_server.Server) -> Counter[str]:
    return Counter(body["model"] for body in server.requests())


# ------------------------------------------------------------------------------------------------------------ fallbacks


def test_where_one_model_fails_another_is_asked_and_both_are_paid(server: llm_server.Server) -> None:
    models, _ = ensemble(server, config("one"), config("two"), cap=1.0)
    server.script({"fault": "truncated"})
    reply = models.ask(PROMPT, rng(), "openai/one")
    assert isinstance(reply, Reply)
    assert reply.model == "openai/two"
    assert len(reply.attempts) == 1
    assert reply.attempts[0].startswith("openai/one: the provider failed")
    assert reply.usage.usd == models.purse.spent
    assert reply.usage.tokens_in > server.counts()["prompt_tokens"]
    assert asked_for(server) == {"one": 1, "two": 1}


def test_without_fallback_one_model_is_asked(server: llm_server.Server) -> None:
    models, _ = ensemble(server, config("one"), config("two"), fallback=False)
    server.script(DOWN)
    failed = models.ask(PROMPT, rng(), "openai/one")
    assert isinstance(failed, CallFailed)
    assert not failed.down
    assert asked_for(server) == {"one": 1}


def test_a_dear_model_that_does_not_fit_under_the_cap_gives_way_to_a_cheap_one(server: llm_server.Server) -> None:
    dear = config("dear", usd_per_million_output=1000)
    models, _ = ensemble(server, dear, config("cheap"), cap=0.1)
    reply = models.ask(PROMPT, rng(), "openai/dear")
    assert isinstance(reply, Reply)
    assert reply.model == "openai/cheap"
    assert asked_for(server) == {"cheap": 1}


# ------------------------------------------------------------------------------------------------------------ the bench


def test_a_model_that_keeps_failing_is_left_alone_and_tried_again_later(server: llm_server.Server) -> None:
    models, clock = ensemble(server, config("one"), config("two"))
    for _ in range(FAILURES):
        server.script(DOWN)
        models.ask(PROMPT, rng(), "openai/one")
    server.reset()
    assert {models.ask(PROMPT, rng(seed)).model for seed in range(10)} == {"openai/two"}  # type: ignore[union-attr]
    assert asked_for(server) == {"two": 10}
    clock.sleep(FIRST_SECONDS)
    assert models.ask(PROMPT, rng(), "openai/one").model == "openai/one"  # type: ignore[union-attr]


def test_with_every_model_down_nobody_waits_and_the_reason_is_named(server: llm_server.Server) -> None:
    models, clock = ensemble(server, config("one"), config("two"))
    server.script(*[DOWN] * 2 * FAILURES)
    failures = [models.ask(PROMPT, rng(seed)) for seed in range(FAILURES)]
    assert [failed.down for failed in failures if isinstance(failed, CallFailed)] == [False, False, True]
    began = clock.now
    failed = models.ask(PROMPT, rng())
    assert isinstance(failed, CallFailed)
    assert failed.down
    assert failed.usage.usd == 0
    assert "No language model answers; openai/" in failed.reason
    assert "is asked again in 60 s. openai/" in failed.reason
    assert clock.now == began
    assert server.counts()["requests"] == 2 * FAILURES
    clock.sleep(FIRST_SECONDS)
    assert isinstance(models.ask(PROMPT, rng()), Reply)


def test_a_prompt_that_is_too_long_benches_nobody(server: llm_server.Server) -> None:
    models, _ = ensemble(server, config("one"))
    server.script(*[{"fault": "context"}] * 5)
    for _ in range(5):
        failed = models.ask(PROMPT, rng())
        assert isinstance(failed, CallFailed)
        assert "too long for the model" in failed.reason
        assert not failed.down
    assert isinstance(models.ask(PROMPT, rng()), Reply)


def test_a_check_passes_over_what_may_pass(server: llm_server.Server) -> None:
    models, _ = ensemble(server, config("one", retries=1), config("two"))
    server.script({"fault": "status", "status": 503}, {"fault": "status", "status": 503})
    models.check()
    assert asked_for(server) == {"one": 2, "two": 1}


# ---------------------------------------------------------------------------------------------------------- rate limits


def test_no_minute_holds_more_requests_than_a_model_allows(server: llm_server.Server) -> None:
    models, clock = ensemble(server, config("one", requests_per_minute=4))
    began = clock.now
    replies = [models.ask(PROMPT, rng()) for _ in range(9)]
    assert all(isinstance(reply, Reply) for reply in replies)
    assert clock.now - began == 120


def test_tokens_are_limited_as_they_are_reserved(server: llm_server.Server) -> None:
    models, clock = ensemble(server, config("one", tokens_per_minute=2500, max_output_tokens=1000))
    began = clock.now
    for _ in range(5):
        models.ask(PROMPT, rng())
    assert clock.now - began == 120


def test_a_pause_that_a_provider_asks_for_holds_all_calls_back(server: llm_server.Server) -> None:
    models, clock = ensemble(server, config("one"))
    server.script({"fault": "status", "status": 429, "retry_after": "40"})
    assert isinstance(models.ask(PROMPT, rng()), CallFailed)
    began = clock.now
    assert isinstance(models.ask(PROMPT, rng()), Reply)
    assert clock.now - began == 40


# ----------------------------------------------------------------------------------------------------------- the choice


def chosen(models: LanguageModels, number: int = 60) -> Counter[str]:
    replies = [models.ask(PROMPT, rng(seed)) for seed in range(number)]
    return Counter(reply.model for reply in replies if isinstance(reply, Reply))


def test_the_model_that_brings_more_is_asked_more_often(server: llm_server.Server) -> None:
    models, _ = ensemble(server, config("one"), config("two"))
    for number in range(20):
        models.learn(f"a{number}", "openai/one", 0.0)
        models.learn(f"b{number}", "openai/two", 0.6)
    counts = chosen(models)
    assert counts["openai/two"] > 45
    assert counts["openai/one"] >= 1


def test_an_outcome_is_learnt_once_and_of_known_models_only(server: llm_server.Server) -> None:
    models, _ = ensemble(server, config("one"), config("two"))
    models.ask(PROMPT, rng())
    for _ in range(50):
        models.learn("a", "openai/one", 1.0)
        models.learn("b", "gone/model", 1.0)
    assert models._accounts["openai/one"].arm.wins == 1.0


def test_a_price_that_turns_out_higher_is_noticed(server: llm_server.Server) -> None:
    dear, cheap = config("dear", usd_per_million_output=4000), config("cheap", usd_per_million_output=4000)
    models, _ = ensemble(server, dear, cheap, training_usd=0.01)
    server.script(*[{"fault": "text", "text": "word " * 4000}] * 5)
    for _ in range(5):
        models.ask(PROMPT, rng(), "openai/dear")
    server.script(*[{"fault": "text", "text": "word"}] * 65)
    for _ in range(5):
        models.ask(PROMPT, rng(), "openai/cheap")
    assert chosen(models)["openai/cheap"] > 45


def test_weights_alone_decide_where_that_is_asked_for(server: llm_server.Server) -> None:
    models, _ = ensemble(server, config("one", weight=3), config("two"), selection="weights")
    for number in range(20):
        models.learn(f"a{number}", "openai/two", 1.0)
    assert 35 <= chosen(models)["openai/one"] <= 55


# --------------------------------------------------------------------------------------------------------- what is sent


def test_settings_of_a_model_are_sent(server: llm_server.Server) -> None:
    models, _ = ensemble(server, config("one", reasoning_effort="low", temperature=0.3))
    models.ask(PROMPT, rng())
    (body,) = server.requests()
    assert (body["reasoning_effort"], body["temperature"]) == ("low", 0.3)


def test_a_model_may_have_an_address_of_its_own(server: llm_server.Server) -> None:
    with llm_server.running() as other:
        models, _ = ensemble(server, config("one"), config("two", api_base=other.api_base))
        assert isinstance(models.ask(PROMPT, rng(), "openai/two"), Reply)
        assert other.counts()["requests"] == 1
    assert server.counts()["requests"] == 0


LONG = "shared " * 1000
CACHED = (Message("system", LONG, len(LONG)), Message("user", LONG + "own", len(LONG)))


def anthropic(server: llm_server.Server, **settings: Any) -> LanguageModels:
    model = ModelConfig(name="anthropic/claude-sonnet-4-5", retries=0)
    made = LlmConfig(models=(model,), api_base=server.api_base.removesuffix("/v1"), **settings)
    return LanguageModels(made, {}, cap_usd=10.0)


def test_what_prompts_share_is_marked_where_a_provider_wants_it_and_costs_less(server: llm_server.Server) -> None:
    marked = anthropic(server).ask(CACHED, rng())
    plain = anthropic(server, prompt_caching=False).ask(CACHED, rng())
    short = anthropic(server).ask(PROMPT, rng())
    assert all(isinstance(reply, Reply) for reply in (marked, plain, short)), (marked, plain, short)
    first, second, third = server.requests()
    assert first["system"][0]["cache_control"] == {"type": "ephemeral"}
    shared, own = first["messages"][0]["content"]
    assert (shared["text"], own["text"]) == (LONG, "own")
    assert shared["cache_control"] == {"type": "ephemeral"}
    assert "cache_control" not in str(second)
    assert "cache_control" not in str(third)
    tokens = marked.usage.tokens_in
    assert tokens > 3000
    assert marked.usage.usd < 0.5 * 3.0 * tokens / 1e6


def test_other_providers_get_plain_messages(server: llm_server.Server) -> None:
    models, _ = ensemble(server, config("one"))
    models.ask(CACHED, rng())
    (body,) = server.requests()
    assert [message["content"] for message in body["messages"]] == [message.content for message in CACHED]


def test_sixteen_threads_share_models_cap_and_counts(server: llm_server.Server) -> None:
    models, _ = ensemble(server, config("one", retries=2), config("two", retries=2), cap=0.5)
    server.script(share=0.3)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda seed: models.ask(PROMPT, rng(seed)), range(96)))
    assert models.purse.committed == models.purse.spent <= 0.5
    assert sum(answer.usage.usd for answer in answers) == pytest.approx(models.purse.spent)
    assert sum(isinstance(answer, Reply) for answer in answers) > 60
