"""The only home of LiteLLM: asks language models, within a cap on dollars, and answers with values, never exceptions.

Owns retries, deadlines and prices. Does not own what is asked (prompt.py), keys (credentials.py), the cap's arithmetic
(purse.py), or what a foreign error means (faults.py).
"""

from __future__ import annotations

import difflib
import functools
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from autoresearch_ray.config import LlmConfig, ModelConfig
from autoresearch_ray.errors import ConfigError
from autoresearch_ray.operators import credentials
from autoresearch_ray.operators.edit import one_line
from autoresearch_ray.operators.faults import Fault, translate
from autoresearch_ray.operators.purse import Purse
from autoresearch_ray.operators.request import Message
from autoresearch_ray.variant import Usage

_TOKENIZER_MARGIN = 1.25
# A provider may count a quarter more tokens in a prompt than LiteLLM's tokenizer does.
_LONGEST_REASON = 300
_GRACE = 1.0
# Seconds after the deadline of the connection itself; only a reply that drips in slowly takes so long.


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered."""

    text: str
    model: str
    """Its name in the configuration."""
    usage: Usage
    """All attempts, failed ones included."""
    cut: bool = False
    """True when the reply ended because it had `max_output_tokens`."""


@dataclass(frozen=True, slots=True)
class CallFailed:
    """No reply, after all attempts."""

    reason: str
    """One sentence, without keys."""
    usage: Usage


@dataclass(frozen=True, slots=True)
class Readiness:
    """What `check` found."""

    usage: Usage
    """What the check itself cost."""
    call_usd: float
    """The most that one call may cost, a full prompt and a full reply of the dearest model; 0 without a price."""


def total(first: Usage, second: Usage) -> Usage:
    """Return what two calls cost together."""
    return Usage(first.tokens_in + second.tokens_in, first.tokens_out + second.tokens_out, first.usd + second.usd)


class LanguageModels:
    """The configured models. Thread-safe: many births ask at a time.

    `spent + reserved <= cap` holds at all times: a call reserves its prompt as counted, plus a margin for other
    tokenizers, and its longest reply. A call waits while others' reservations are in its way, and fails where even
    without them it does not fit. What a provider may have charged for without our learning of it (a time-out, a
    connection that broke, a reply that is not readable) is paid in full; an error that it reports costs nothing.

    Attributes:
        settings: as given.
        purse: what is spent and reserved.
    """

    def __init__(
        self,
        settings: LlmConfig,
        keys: Mapping[str, str],
        *,
        cap_usd: float | None = None,
        spent_usd: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Ask nothing yet.

        Args:
            settings: models and how to call them; at least one.
            keys: credentials by the names of their environment variables, see `credentials.take`.
            cap_usd: dollars that may be spent over the whole run; None is no limit.
            spent_usd: dollars spent before.
            sleep: waits between attempts.
        """
        self.settings = settings
        self._keys = dict(keys)
        self.purse = Purse(cap_usd, spent_usd)
        self._sleep = sleep

    def __repr__(self) -> str:
        return f"LanguageModels({', '.join(model.name for model in self.settings.models)})"

    @property
    def max_prompt_tokens(self) -> int:
        """Tokens that a prompt may have."""
        return self.settings.max_prompt_tokens

    def count(self, messages: Sequence[Message]) -> int:
        """Count the tokens of messages, as far as LiteLLM knows the first model's tokenizer."""
        return _count(self.settings.models[0].name, messages)

    def check(self) -> Readiness:
        """Find out before the first birth whether every model can be asked, with one tiny call each.

        Raises:
            ConfigError: a model is unknown, its key is missing or refused, its price is not known under a cap, the cap
                is too low for a single call, or nobody answers.
        """
        usage, dearest = Usage(), 0.0
        for model in self._models:
            if self.purse.cap is not None and not model.priced:
                raise ConfigError(
                    f"The price of {model.name} is not known, so max_cost_usd cannot be kept: set its "
                    "usd_per_million_input and usd_per_million_output (0 if it is your own), or max_cost_usd=null."
                )
            longest = math.ceil(_TOKENIZER_MARGIN * self.settings.max_prompt_tokens)
            dearest = max(dearest, model.usage(longest, model.config.max_output_tokens).usd)
            answer = self._call(model, _CHECK, np.random.default_rng(0), attempts=min(2, self.settings.retries + 1))
            usage = total(usage, answer.usage)
            if isinstance(answer, CallFailed):
                where = f" llm.api_base is {self.settings.api_base}." if self.settings.api_base else ""
                raise ConfigError(f"{answer.reason}{where}")
        return Readiness(usage, dearest)

    def ask(
        self, messages: Sequence[Message], rng: np.random.Generator, model: str | None = None
    ) -> Reply | CallFailed:
        """Ask one model, and try again where that may help.

        Args:
            messages: the conversation so far.
            rng: chooses the model by weight, and varies the pauses between attempts.
            model: the name of the model to ask, where it is not to be chosen.

        Raises:
            ConfigError: a model is unknown or its key is missing (see `check`).
        """
        named = [candidate for candidate in self._models if model in (None, candidate.name)]
        weights = np.array([candidate.config.weight for candidate in named])
        chosen = named[int(rng.choice(len(named), p=weights / weights.sum()))]
        return self._call(chosen, messages, rng, attempts=self.settings.retries + 1)

    @functools.cached_property
    def _models(self) -> tuple[_Model, ...]:
        return tuple(_prepare(config, self.settings.api_base, self._keys) for config in self.settings.models)

    def _call(
        self, model: _Model, messages: Sequence[Message], rng: np.random.Generator, attempts: int
    ) -> Reply | CallFailed:
        prompt_tokens = math.ceil(_TOKENIZER_MARGIN * _count(model.name, messages))
        in_full = model.usage(prompt_tokens, model.config.max_output_tokens)
        spent = Usage()
        for attempt in range(attempts):
            if not self.purse.reserve(in_full.usd):
                left = max(0.0, (self.purse.cap or 0.0) - self.purse.spent)
                return CallFailed(
                    f"A call of {model.name} may cost ${in_full.usd:.4f}, and max_cost_usd leaves ${left:.4f}.", spent
                )
            answer = self._attempt(model, messages, in_full)
            self.purse.settle(in_full.usd, answer.usage.usd)
            spent = total(spent, answer.usage)
            if isinstance(answer, Reply):
                return Reply(answer.text, answer.model, spent, answer.cut)
            pause = answer.pause(attempt, rng)
            if pause is None or attempt + 1 == attempts:
                tries = f" ({attempt + 1} attempts)" if attempt else ""
                reason = one_line(credentials.redact(answer.reason, self._keys), _LONGEST_REASON)
                return CallFailed(f"{model.name}: {reason}{tries}.", spent)
            self._sleep(pause)
        raise ValueError(f"a call needs at least one attempt, not {attempts}")

    def _attempt(self, model: _Model, messages: Sequence[Message], in_full: Usage) -> Reply | Fault:
        """Make one call, and give it up when its time is over."""
        answers: SimpleQueue[Reply | Fault] = SimpleQueue()

        def call() -> None:
            answer: Reply | Fault = Fault("the call broke down", in_full)
            try:
                answer = _complete(model, messages, in_full)
            finally:
                answers.put(answer)

        # LiteLLM's time-out is one between two bytes. A reply that drips in would never end, hence the thread.
        threading.Thread(target=call, name=f"call {model.name}", daemon=True).start()
        try:
            return answers.get(timeout=model.config.timeout_seconds + _GRACE)
        except Empty:
            return Fault(f"no complete answer within {model.config.timeout_seconds:g} s", in_full, again=True)


# ---------------------------------------------------------------------------------------------------------------------
# Models, keys and prices
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Model:
    config: ModelConfig
    priced: bool
    """Whether the configuration or LiteLLM's table has a price."""
    arguments: Mapping[str, str] = field(repr=False)
    """Credentials and addresses for LiteLLM."""

    @property
    def name(self) -> str:
        return self.config.name

    def usage(self, tokens_in: int, tokens_out: int, reported: Any = None) -> Usage:
        """Return tokens with their price; `reported` is a provider's own account, which knows what was cached."""
        config = self.config
        if config.usd_per_million_input is not None and config.usd_per_million_output is not None:
            usd = (tokens_in * config.usd_per_million_input + tokens_out * config.usd_per_million_output) / 1e6
        elif self.priced:
            usd = math.fsum(_litellm().cost_per_token(config.name, tokens_in, tokens_out, usage_object=reported))
        else:
            usd = 0.0
        return Usage(tokens_in, tokens_out, usd)


def _prepare(config: ModelConfig, api_base: str | None, keys: Mapping[str, str]) -> _Model:
    """Look a model up (Raises ConfigError: it is unknown or its key is missing)."""
    litellm = _litellm()
    try:
        _, provider, _, _ = litellm.get_llm_provider(config.name)
    except _caught() as error:
        raise ConfigError(f"Unknown model {config.name!r}{_suggestion(config.name)}.") from error
    wanted = [name for name in litellm.validate_environment(config.name)["missing_keys"] if name != "OLLAMA_API_BASE"]
    absent = credentials.missing(wanted, keys)
    if absent and not api_base:
        raise ConfigError(f"{config.name} needs {absent} in the environment, which is not set.")
    arguments = credentials.arguments(provider, wanted, keys)
    if api_base:  # a server of one's own may want no key, but LiteLLM wants one to send
        arguments = {"api_key": "none", **arguments, "api_base": api_base}
    return _Model(config, config.usd_per_million_input is not None or _in_table(config.name, provider), arguments)


def _in_table(name: str, provider: str) -> bool:
    """Return whether LiteLLM knows a model's price; what runs on one's own machine has the price 0."""
    litellm = _litellm()
    if provider in ("ollama", "ollama_chat"):
        return True
    try:
        costs = litellm.cost_per_token(name, 1000, 1000)
    except _caught():
        return False
    return any(costs) or "input_cost_per_token" in litellm.model_cost.get(name, {})


def _suggestion(name: str) -> str:
    provider, slash, rest = name.partition("/")
    if slash:
        known = [str(getattr(each, "value", each)) for each in _litellm().provider_list]
        near = [f"{each}/{rest}" for each in difflib.get_close_matches(provider, known)]
    else:
        table = {each: entry for each, entry in _litellm().model_cost.items() if "/" not in each}
        near = [f"{table[each]['litellm_provider']}/{each}" for each in difflib.get_close_matches(name, table)]
    offered = f"; near it are {', '.join(near)}" if near else ""
    return f": LiteLLM names models with their provider first, as in openai/gpt-5-mini{offered}"


# ---------------------------------------------------------------------------------------------------------------------
# One call
# ---------------------------------------------------------------------------------------------------------------------

_CHECK = (Message("user", "Reply with the single word: ready"),)


def _complete(model: _Model, messages: Sequence[Message], in_full: Usage) -> Reply | Fault:
    """Make one HTTP request and translate what comes of it."""
    litellm, config = _litellm(), model.config
    options = {} if config.temperature is None else {"temperature": config.temperature}
    try:
        response = litellm.completion(
            model=config.name,
            messages=[{"role": message.role, "content": message.content} for message in messages],
            max_tokens=config.max_output_tokens,
            timeout=config.timeout_seconds,
            max_retries=0,
            **options,
            **model.arguments,
        )
        text, finish = _text(response)
        usage = _usage(model, response, messages, text)
    except _caught() as error:
        return translate(error, in_full)
    cut = finish == "length"
    if text.strip():
        return Reply(text, model.name, usage, cut)
    if cut:
        return Fault(f"the reply is empty: all {config.max_output_tokens} tokens went into reasoning", usage)
    return Fault("the reply is empty", usage, again=True)


def _text(response: Any) -> tuple[str, str]:
    """Return the text and why it ended; a reply without choices is an empty text."""
    if not response.choices:
        return "", ""
    choice = response.choices[0]
    return choice.message.content or "", choice.finish_reason or ""


def _usage(model: _Model, response: Any, messages: Sequence[Message], text: str) -> Usage:
    """Return what the provider says it counted, or our own count where it says nothing."""
    reported = getattr(response, "usage", None)
    if reported is not None and reported.prompt_tokens:
        return model.usage(reported.prompt_tokens, reported.completion_tokens or 0, reported)
    return model.usage(_count(model.name, messages), _litellm().token_counter(model.name, text=text))


def _count(name: str, messages: Sequence[Message]) -> int:
    plain = [{"role": message.role, "content": message.content} for message in messages]
    return int(_litellm().token_counter(name, messages=plain))


@functools.cache
def _caught() -> tuple[type[Exception], ...]:
    """Return what a call may raise: LiteLLM's own errors, and what it lets through when a provider's answer is odd."""
    litellm = _litellm()
    own = [kind for kind in vars(litellm.exceptions).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    plain = (ArithmeticError, AttributeError, ImportError, LookupError, OSError, RuntimeError, SystemError, TypeError)
    return (litellm.exceptions.openai.OpenAIError, *own, *plain, ValueError)


@functools.cache
def _litellm() -> Any:
    """Import LiteLLM (3.5 s) so that it neither looks outside, nor reads a `.env` file, nor logs."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    os.environ["LITELLM_MODE"] = "PRODUCTION"
    os.environ.pop("LITELLM_LOG", None)
    import litellm

    litellm.suppress_debug_info = True
    litellm.disable_hf_tokenizer_download = True
    litellm.telemetry = False
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy", "httpx", "openai"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return litellm
