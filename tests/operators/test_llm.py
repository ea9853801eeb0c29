"""Real LiteLLM over real HTTP, to a server in a process of its own."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path
from typing import Any

import llm_server
import numpy as np
import pytest

from autoresearch_ray.config import LlmConfig, ModelConfig
from autoresearch_ray.errors import ConfigError
from autoresearch_ray.operators import credentials, faults, llm
from autoresearch_ray.operators.ensemble import CallFailed, LanguageModels
from autoresearch_ray.operators.faults import Fault
from autoresearch_ray.operators.llm import Reply
from autoresearch_ray.operators.purse import Purse
from autoresearch_ray.operators.request import Message
from autoresearch_ray.variant import Usage

PROMPT = (Message("system", "You are an operator."), Message("user", "Change the program. " * 50))
MODEL = ModelConfig(
    name="openai/test", usd_per_million_input=2, usd_per_million_output=8, max_output_tokens=1000, timeout_seconds=20
)


class Pauses(list[float]):
    """Takes the place of sleeping, and of the clock, which goes on by what was slept."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)

    def clock(self) -> float:
        return 1000.0 + sum(self)


def models(
    server: llm_server.Server, *configs: ModelConfig, retries: int = 0, cap: float | None = None, **options: Any
) -> LanguageModels:
    settings = LlmConfig(models=configs or (MODEL,), api_base=server.api_base, retries=retries, selection="weights")
    pauses = options.setdefault("sleep", Pauses())
    return LanguageModels(settings, {}, cap_usd=cap, clock=pauses.clock, **options)


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def in_full(asked: LanguageModels) -> Usage:
    tokens = int(np.ceil(1.25 * asked.count(PROMPT)))
    return Usage(tokens, 1000, (2 * tokens + 8 * 1000) / 1e6)


# -------------------------------------------------------------------------------------------------------- what it costs


def test_a_reply_costs_what_the_server_counted(server: llm_server.Server) -> None:
    asked = models(server, cap=1.0)
    replies = [asked.ask(PROMPT, rng()) for _ in range(3)]
    counts = server.counts()
    usages = [reply.usage for reply in replies]
    assert all(isinstance(reply, Reply) and reply.text == "ready" and reply.model == "openai/test" for reply in replies)
    assert counts["requests"] == 3
    assert sum(usage.tokens_in for usage in usages) == counts["prompt_tokens"] > 0
    assert sum(usage.tokens_out for usage in usages) == counts["completion_tokens"] > 0
    usd = (2 * counts["prompt_tokens"] + 8 * counts["completion_tokens"]) / 1e6
    assert sum(usage.usd for usage in usages) == pytest.approx(usd) == pytest.approx(asked.purse.spent)
    assert asked.purse.committed == asked.purse.spent


def test_what_is_sent(server: llm_server.Server) -> None:
    models(server, MODEL.model_copy(update={"temperature": 0.5})).ask(PROMPT, rng())
    models(server).ask(PROMPT, rng())
    first, second = server.requests()
    assert first["messages"] == [{"role": message.role, "content": message.content} for message in PROMPT]
    assert (first["model"], first["max_tokens"], first["temperature"]) == ("test", 1000, 0.5)
    assert "temperature" not in second


def test_a_provider_that_counts_nothing_is_counted_for(server: llm_server.Server) -> None:
    server.script({"fault": "text", "text": "three short words", "bare": True})
    asked = models(server)
    reply = asked.ask(PROMPT, rng())
    assert isinstance(reply, Reply)
    assert reply.usage.tokens_in == asked.count(PROMPT)
    assert reply.usage.tokens_out == 3


def test_prices_of_the_table(server: llm_server.Server) -> None:
    reply = models(server, ModelConfig(name="openai/gpt-4o"), cap=1.0).ask(PROMPT, rng())
    assert reply.usage.usd == pytest.approx((2.5 * reply.usage.tokens_in + 10 * reply.usage.tokens_out) / 1e6)


def test_a_reply_that_was_cut_says_so(server: llm_server.Server) -> None:
    server.script(
        {"fault": "text", "text": "HYPO", "finish": "length"}, {"fault": "text", "text": "", "finish": "length"}
    )
    asked = models(server, retries=3)
    reply, empty = asked.ask(PROMPT, rng()), asked.ask(PROMPT, rng())
    assert isinstance(reply, Reply)
    assert reply.cut
    assert isinstance(empty, Reply)
    assert "all 1000 tokens went into reasoning" in empty.complaint
    assert server.counts()["requests"] == 2
    server.script({"fault": "text", "text": "", "finish": "length"})
    with pytest.raises(ConfigError, match="openai/test: The reply is empty: all 1000 tokens went into reasoning"):
        asked.check()


# --------------------------------------------------------------------------------------------------------------- faults

FREE, PAID = "free", "in full"


@pytest.mark.parametrize(
    ("step", "says", "again", "cost"),
    [
        ({"fault": "status", "status": 429}, "the rate limit is reached (planted)", True, FREE),
        ({"fault": "status", "status": 429, "message": "insufficient_quota"}, "the rate limit is reached", False, FREE),
        ({"fault": "status", "status": 500}, "the provider failed (planted)", True, FREE),
        ({"fault": "status", "status": 502}, "the provider's gateway failed", True, FREE),
        ({"fault": "status", "status": 503}, "the provider is overloaded", True, FREE),
        ({"fault": "status", "status": 400}, "the provider refuses the request", False, FREE),
        ({"fault": "status", "status": 401}, "the key is missing or refused", False, FREE),
        ({"fault": "status", "status": 402}, "the provider wants payment", False, FREE),
        ({"fault": "status", "status": 403}, "the key may not use this model", False, FREE),
        ({"fault": "status", "status": 404}, "the provider does not know the model", False, FREE),
        ({"fault": "context"}, "the prompt is too long for the model; lower llm.max_prompt_tokens", False, FREE),
        ({"fault": "truncated"}, "the provider failed (Connection error)", True, PAID),
        ({"fault": "garbage"}, "the provider failed", True, PAID),
        ({"fault": "wrong"}, "the provider failed", True, PAID),
        ({"fault": "hang_up"}, "the provider failed (Connection error)", True, PAID),
        ({"fault": "empty"}, "the reply is empty", True, None),
        ({"fault": "blank"}, "the reply is empty", True, None),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_a_fault_is_one_sentence_one_request_and_paid_where_it_may_have_been_carried_out(
    server: llm_server.Server, step: llm_server.Step, says: str, again: bool, cost: str | None
) -> None:
    server.script(step)
    asked = models(server, cap=1.0)
    failed = asked.ask(PROMPT, rng())
    assert isinstance(failed, CallFailed)
    assert failed.reason.startswith(f"openai/test: {says}")
    assert "\n" not in failed.reason
    counts = server.counts()
    assert counts["requests"] == 1
    reported = Usage(counts["prompt_tokens"], counts["completion_tokens"], failed.usage.usd)
    assert failed.usage == {FREE: Usage(), PAID: in_full(asked), None: reported}[cost]
    assert asked.purse.committed == failed.usage.usd
    server.script(step)
    assert isinstance(models(server, retries=1).ask(PROMPT, rng()), Reply) is again


def test_failures_on_the_way_to_a_reply_are_in_its_cost(server: llm_server.Server) -> None:
    server.script({"fault": "status", "status": 500}, {"fault": "truncated"}, {"fault": "blank"})
    asked, counts = models(server, retries=3), server.counts
    reply = asked.ask(PROMPT, rng())
    assert isinstance(reply, Reply)
    assert counts()["requests"] == 4
    assert reply.usage.tokens_in == counts()["prompt_tokens"] + in_full(asked).tokens_in
    assert reply.usage.usd == asked.purse.spent


def test_attempts_end(server: llm_server.Server) -> None:
    server.script(*[{"fault": "status", "status": 500}] * 9)
    pauses = Pauses()
    failed = models(server, retries=3, sleep=pauses).ask(PROMPT, rng())
    assert isinstance(failed, CallFailed)
    assert failed.reason == "openai/test: the provider failed (planted) (4 attempts)."
    assert server.counts()["requests"] == 4
    assert [0.5 * 2**n <= pause <= 2**n for n, pause in enumerate(pauses)] == [True] * 3
    again = Pauses()
    server.script(*[{"fault": "status", "status": 500}] * 9)
    models(server, retries=3, sleep=again).ask(PROMPT, rng())
    assert again == pauses


@pytest.mark.parametrize("date", [False, True], ids=["seconds", "date"])
def test_retry_after_is_honoured(server: llm_server.Server, date: bool) -> None:
    header = formatdate(time.time() + 60, usegmt=True) if date else "60"
    server.script({"fault": "status", "status": 429, "retry_after": header})
    pauses = Pauses()
    assert isinstance(models(server, retries=1, sleep=pauses).ask(PROMPT, rng()), Reply)
    assert len(pauses) == 1
    assert 40 <= pauses[0] <= 60.1


def test_nobody_waits_for_an_hour(server: llm_server.Server) -> None:
    server.script({"fault": "status", "status": 429, "retry_after": "3600"})
    pauses = Pauses()
    assert isinstance(models(server, retries=3, sleep=pauses).ask(PROMPT, rng()), CallFailed)
    assert pauses == []


@pytest.mark.parametrize("fault", ["delay", "drip"])
def test_a_call_ends_at_its_deadline_and_is_charged_in_full(server: llm_server.Server, fault: str) -> None:
    server.script({"fault": fault, "seconds": 8})
    asked = models(server, MODEL.model_copy(update={"timeout_seconds": 0.3}), cap=1.0)
    began = time.monotonic()
    failed = asked.ask(PROMPT, rng())
    assert time.monotonic() - began < 4
    assert isinstance(failed, CallFailed)
    assert "no answer in time" in failed.reason or "no complete answer within 0.3 s" in failed.reason
    assert failed.usage == in_full(asked)
    assert asked.purse.committed == in_full(asked).usd


def test_nobody_at_the_address(server: llm_server.Server) -> None:
    settings = LlmConfig(models=(MODEL,), api_base="http://127.0.0.1:9/v1", retries=1)
    asked = LanguageModels(settings, {}, sleep=Pauses())
    failed = asked.ask(PROMPT, rng())
    assert isinstance(failed, CallFailed)
    assert "nobody answers at its address" in failed.reason
    assert failed.usage == Usage()
    said = r"nobody answers at its address .* Its address is http://127.0.0.1:9/v1 \(llm\.api_base\)\."
    with pytest.raises(ConfigError, match=said):
        asked.check()


def test_the_table_of_faults_covers_what_litellm_defines() -> None:
    exceptions = llm._litellm().exceptions
    defined = [
        kind
        for kind in vars(exceptions).values()
        if isinstance(kind, type) and issubclass(kind, Exception) and kind.__module__ == exceptions.__name__
    ]
    assert len(defined) > 25
    for kind in (*defined, *llm._litellm().LITELLM_EXCEPTION_TYPES):
        named = [base.__name__ for base in kind.__mro__ if base.__name__ in faults.FAULTS]
        assert named, kind
        assert named[0] != "OpenAIError" or kind.__name__ == "OpenAIError", kind
        assert issubclass(kind, llm.caught())
    known = {base.__name__ for kind in defined for base in kind.__mro__}
    assert set(faults.FAULTS) <= known


def test_a_traceback_that_could_not_be_formatted_hides_no_fault() -> None:
    error = SystemError("AST constructor recursion depth mismatch (before=39, after=40)")
    error.__context__ = llm._litellm().RateLimitError("slow down", "openai", "test")
    fault = faults.translate(error, Usage(1, 1, 1.0))
    assert (fault.reason, fault.usage, fault.again) == ("the rate limit is reached (slow down)", Usage(), True)


# ------------------------------------------------------------------------------------------------------------------ cap


def test_what_does_not_fit_under_the_cap_is_not_asked(server: llm_server.Server) -> None:
    asked = models(server, cap=0.02, spent_usd=0.015)
    failed = asked.ask(PROMPT, rng())
    assert isinstance(failed, CallFailed)
    assert failed.reason == "A call of openai/test may cost $0.0085, and max_cost_usd leaves $0.0050."
    assert server.counts()["requests"] == 0
    assert isinstance(models(server, cap=0.02, spent_usd=0.01).ask(PROMPT, rng()), Reply)


def test_the_cap_holds_under_sixteen_concurrent_calls(server: llm_server.Server) -> None:
    slow = {"fault": "delay", "seconds": 0.3}
    server.script(*[slow] * 10, *[{"fault": "truncated"}, {"fault": "blank"}] * 40)
    asked = models(server, cap=0.1, retries=2)
    seen, stop = [], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            seen.append(asked.purse.committed)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda seed: asked.ask(PROMPT, np.random.default_rng(seed)), range(48)))
    stop.set()
    watcher.join()
    assert max(seen) <= 0.1
    assert asked.purse.committed == asked.purse.spent
    assert sum(answer.usage.usd for answer in answers) == pytest.approx(asked.purse.spent)
    assert 0.1 - asked.purse.spent < in_full(asked).usd
    assert any("max_cost_usd leaves" in answer.reason for answer in answers if isinstance(answer, CallFailed))
    assert server.counts()["at_once"] > 4


def test_a_purse_waits_for_others_reservations_and_refuses_without_hope() -> None:
    purse = Purse(1.0)
    assert purse.reserve(0.7)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(purse.reserve, 0.6)
        assert not purse.reserve(1.1)
        assert not waiting.done()
        purse.settle(0.7, 0.2)
        assert waiting.result(10)
    assert purse.committed == pytest.approx(0.8)
    with pytest.raises(ValueError, match="not in list"):
        purse.settle(0.5, 0.1)


# ---------------------------------------------------------------------------------------------------------------- check


def test_check_asks_every_model_once_and_knows_the_dearest_call(server: llm_server.Server) -> None:
    other = ModelConfig(name="openai/other", usd_per_million_input=1, usd_per_million_output=1)
    asked = models(server, MODEL, other, cap=1.0)
    ready = asked.check()
    assert [body["model"] for body in server.requests()] == ["test", "other"]
    assert ready.usage.tokens_in == server.counts()["prompt_tokens"]
    assert ready.usage.usd == asked.purse.spent > 0
    assert ready.call_usd == pytest.approx((2 * 40_000 + 8 * 1000) / 1e6)


@pytest.mark.parametrize(
    ("config", "api_base", "cap", "says"),
    [
        ({"name": "clever"}, None, None, "Unknown model 'clever': LiteLLM names models with their provider first"),
        ({"name": "gpt-4o-minni"}, None, None, "near it are openai/gpt-4o-mini"),
        ({"name": "antropic/claude-sonnet-4-5"}, None, None, "near it are anthropic/claude-sonnet-4-5"),
        ({"name": "anthropic/claude-sonnet-4-5"}, None, 20, "needs ANTHROPIC_API_KEY in the environment, which"),
        ({"name": "gemini/gemini-2.5-pro"}, None, 20, "needs GOOGLE_API_KEY or GEMINI_API_KEY in the environment"),
        ({"name": "azure/mine"}, None, None, "needs AZURE_API_BASE and AZURE_API_VERSION and AZURE_API_KEY in the"),
        ({"name": "openai/test"}, "here", 20, "The price of openai/test is not known, so max_cost_usd cannot be kept"),
        (dict(MODEL), "here", 0.001, "may cost $0.0080, and max_cost_usd leaves $0.0010."),
    ],
    ids=["no provider", "misspelt model", "misspelt provider", "no key", "two keys", "azure", "no price", "low cap"],
)  # fmt: skip
def test_check_says_in_a_sentence_what_is_wrong(
    server: llm_server.Server, config: dict[str, Any], api_base: str | None, cap: float | None, says: str
) -> None:
    settings = LlmConfig(models=(ModelConfig(**config),), api_base=server.api_base if api_base else None)
    with pytest.raises(ConfigError) as caught:
        LanguageModels(settings, {}, cap_usd=cap).check()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert server.counts()["requests"] == 0


def test_check_reports_what_the_provider_refuses(server: llm_server.Server) -> None:
    server.script({"fault": "status", "status": 404, "message": "no such model"})
    with pytest.raises(ConfigError, match=r"does not know the model \(no such model\)"):
        models(server).check()


def test_without_a_cap_no_price_is_wanted(server: llm_server.Server) -> None:
    ready = models(server, ModelConfig(name="openai/test")).check()
    assert (ready.usage.usd, ready.call_usd) == (0.0, 0.0)
    assert ready.usage.tokens_in > 0


# --------------------------------------------------------------------------------------------------------------- choice


def test_models_are_chosen_by_weight(server: llm_server.Server) -> None:
    asked = models(server, MODEL.model_copy(update={"weight": 3}), ModelConfig(name="openai/other"))
    chosen = [asked.ask(PROMPT, np.random.default_rng(seed)) for seed in range(40)]
    names = [reply.model for reply in chosen if isinstance(reply, Reply)]
    assert 22 <= names.count("openai/test") <= 38
    assert names.count("openai/test") + names.count("openai/other") == 40
    again = asked.ask(PROMPT, np.random.default_rng(0), names[0])
    assert isinstance(again, Reply)
    assert {asked.ask(PROMPT, rng(), "openai/other").model for _ in range(3)} == {"openai/other"}  # type: ignore[union-attr]


# ----------------------------------------------------------------------------------------------------------------- keys


def test_a_key_is_sent_and_appears_nowhere_else(capfd: Any, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = llm_server.KEY.replace("0", "9")
    with llm_server.running(key=True) as server:
        settings = LlmConfig(models=(MODEL,), api_base=server.api_base, retries=0)
        good = LanguageModels(settings, {"OPENAI_API_KEY": llm_server.KEY})
        bad = LanguageModels(settings, {"OPENAI_API_KEY": wrong})
        assert isinstance(good.ask(PROMPT, rng()), Reply)
        failed = bad.ask(PROMPT, rng())
        assert isinstance(failed, CallFailed)
        assert "Incorrect API key provided: Bearer [OPENAI_API_KEY]" in failed.reason
        with pytest.raises(ConfigError, match="the key is missing or refused") as caught:
            bad.check()
        texts = [repr(good), repr(bad), repr(bad._models), str(caught.value), failed.reason, *capfd.readouterr()]
        texts += [*os.environ.values(), *(record.getMessage() for record in caplog.records)]
    assert not any(key in text for text in texts for key in (wrong, llm_server.KEY))


def test_credentials_leave_the_environment() -> None:
    environment = {
        "OPENAI_API_KEY": "a",
        "HF_TOKEN": "b",
        "ANTHROPIC_AUTH_TOKEN": "c",
        "WATSONX_APIKEY": "d",
        "AZURE_CLIENT_SECRET": "e",
        "AZURE_API_BASE": "f",
        "AWS_SECRET_ACCESS_KEY": "g",
        "RAY_AUTH_TOKEN": "h",
        "TOKENIZERS_PARALLELISM": "i",
        "PATH": "j",
    }
    keys = credentials.take(environment)
    assert "".join(sorted(keys.values())) == "abcdefg"
    assert "".join(sorted(environment.values())) == "fghij"


def test_credentials_become_arguments() -> None:
    keys = {"AZURE_API_KEY": "a", "AZURE_API_BASE": "b", "AZURE_API_VERSION": "c", "OPENAI_API_KEY": "d"}
    wanted = ["AZURE_API_BASE", "AZURE_API_VERSION", "AZURE_API_KEY"]
    assert credentials.arguments("azure", wanted, keys) == {"api_key": "a", "api_base": "b", "api_version": "c"}
    assert credentials.arguments("openai", [], keys) == {"api_key": "d"}
    assert credentials.missing(wanted, {**keys, "AZURE_API_BASE": ""}) == "AZURE_API_BASE"


def test_what_looks_like_a_key_is_cut_out() -> None:
    keys = {"A_API_KEY": "abcdefgh", "B_API_KEY": "abc", "C_API_BASE": "http://here"}
    text = "abcdefgh at http://here with sk-proj-a1b2c3d4 or sk-ab***************cd; abc"
    assert credentials.redact(text, keys) == "[A_API_KEY] at http://here with [key] or [key]; abc"


def test_litellm_neither_prints_nor_reads_a_file_of_keys(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-from-a-file\n")
    code = f"""
import os, numpy
from autoresearch_ray.config import LlmConfig, ModelConfig
from autoresearch_ray.operators import ensemble, llm, mutation
from autoresearch_ray.operators.request import Message
import sys
assert "litellm" not in sys.modules
settings = LlmConfig(models=[ModelConfig(name="openai/test", usd_per_million_input=1, usd_per_million_output=1)],
                     api_base="http://127.0.0.1:9/v1", retries=0)
asked = ensemble.LanguageModels(settings, {{"OPENAI_API_KEY": "{llm_server.KEY}"}})
assert "nobody answers" in asked.ask([Message("user", "hi")], numpy.random.default_rng(0)).reason
assert "OPENAI_API_KEY" not in os.environ
"""
    environment = {**os.environ, "LITELLM_LOG": "DEBUG", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_call_that_breaks_down_is_a_fault(server: llm_server.Server, monkeypatch: Any) -> None:
    def broken(*_: object) -> Fault:
        raise NotImplementedError

    monkeypatch.setattr(llm, "_complete", broken)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    asked = models(server)
    failed = asked.ask(PROMPT, rng())
    for thread in threading.enumerate():  # its traceback is this test's, not a later one's
        if thread.name.startswith("call "):
            thread.join()
    assert isinstance(failed, CallFailed)
    assert failed.usage == in_full(asked)
