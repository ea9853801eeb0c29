"""The only home of LiteLLM: one model, one call, one answer as a value, never an exception.

Owns prices, tokenizers and the deadline of a call. Does not own which model is asked, retries or the cap (ensemble.py),
keys (credentials.py), or what a foreign error means (faults.py).
"""

from __future__ import annotations

import difflib
import functools
import logging
import math
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from autoresearch_ray.config import ModelConfig
from autoresearch_ray.errors import ConfigError
from autoresearch_ray.operators import credentials
from autoresearch_ray.operators.faults import Fault, translate
from autoresearch_ray.operators.request import Message
from autoresearch_ray.variant import Usage

_TOKENIZER_MARGIN = 1.25
# A provider may count a quarter more tokens in a prompt than LiteLLM's tokenizer does.
_GRACE = 1.0
# Seconds after the deadline of the connection itself; only a reply that drips in slowly takes so long.
_MARKED_PROVIDERS = ("anthropic", "bedrock", "vertex_ai")
# They cache a prompt up to what is marked; others find out by themselves what prompts share.
_LEAST_CACHED = 4000
# Characters; a shorter beginning is not worth a mark, and providers want a thousand tokens.


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
    attempts: tuple[str, ...] = ()
    """What failed before it, oldest first."""
    source: str | None = None
    """The edited file itself, where the answer is one; the text then says what it is about."""
    complaint: str = ""
    """Why it cannot be used, where its text does not say so."""


@dataclass(frozen=True, slots=True)
class Model:
    """A configured model that is known, has its credentials, and can be asked from several threads."""

    config: ModelConfig
    priced: bool
    """Whether the configuration or LiteLLM's table has a price."""
    arguments: Mapping[str, str] = field(repr=False)
    """Credentials and addresses for LiteLLM."""
    marks: bool
    """Whether what prompts share is marked for its provider's cache."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""
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

    def count(self, messages: Sequence[Message]) -> int:
        """Count the tokens of messages, as far as LiteLLM knows the model's tokenizer."""
        plain = [{"role": message.role, "content": message.content} for message in messages]
        return int(_litellm().token_counter(self.name, messages=plain))

    def in_full(self, prompt_tokens: int) -> Usage:
        """Return the most that a call with so many prompt tokens, as counted, may cost."""
        return self.usage(math.ceil(_TOKENIZER_MARGIN * prompt_tokens), self.config.max_output_tokens)

    def ask(self, messages: Sequence[Message], in_full: Usage) -> Reply | Fault:
        """Make one call, and give it up when its time is over: it is then paid in full."""
        answers: SimpleQueue[Reply | Fault] = SimpleQueue()

        def call() -> None:
            answer: Reply | Fault = Fault("the call broke down", in_full)
            try:
                answer = _complete(self, messages, in_full)
            finally:
                answers.put(answer)

        # LiteLLM's time-out is one between two bytes. A reply that drips in would never end, hence the thread.
        threading.Thread(target=call, name=f"call {self.name}", daemon=True).start()
        try:
            return answers.get(timeout=self.config.timeout_seconds + _GRACE)
        except Empty:
            return Fault(f"no complete answer within {self.config.timeout_seconds:g} s", in_full, again=True)


def prepare(config: ModelConfig, api_base: str | None, keys: Mapping[str, str], *, caching: bool = True) -> Model:
    """Look a model up.

    Args:
        config: the model.
        api_base: the address of its server where it has none of its own; None is the provider's.
        keys: credentials by the names of their environment variables, see `credentials.take`.
        caching: mark what prompts share, where the provider wants that.

    Raises:
        ConfigError: it is unknown, or its key is missing.
    """
    litellm = _litellm()
    api_base = config.api_base or api_base
    try:
        _, provider, _, _ = litellm.get_llm_provider(config.name)
    except caught() as error:
        raise ConfigError(f"Unknown model {config.name!r}{_suggestion(config.name)}.") from error
    wanted = [name for name in litellm.validate_environment(config.name)["missing_keys"] if name != "OLLAMA_API_BASE"]
    absent = credentials.missing(wanted, keys)
    if absent and not api_base:
        raise ConfigError(f"{config.name} needs {absent} in the environment, which is not set.")
    arguments = credentials.arguments(provider, wanted, keys)
    if api_base:  # a server of one's own may want no key, but LiteLLM wants one to send
        arguments = {"api_key": "none", **arguments, "api_base": api_base}
    priced = config.usd_per_million_input is not None or _in_table(config.name, provider)
    return Model(config, priced, arguments, caching and provider in _MARKED_PROVIDERS)


def _in_table(name: str, provider: str) -> bool:
    """Return whether LiteLLM knows a model's price; what runs on one's own machine has the price 0."""
    litellm = _litellm()
    if provider in ("ollama", "ollama_chat"):
        return True
    try:
        costs = litellm.cost_per_token(name, 1000, 1000)
    except caught():
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


def _complete(model: Model, messages: Sequence[Message], in_full: Usage) -> Reply | Fault:
    """Make one HTTP request and translate what comes of it."""
    litellm, config = _litellm(), model.config
    options: dict[str, Any] = {} if config.temperature is None else {"temperature": config.temperature}
    if config.reasoning_effort is not None:
        options["reasoning_effort"] = config.reasoning_effort
    try:
        response = litellm.completion(
            model=config.name,
            messages=[_sent(message, marked=model.marks) for message in messages],
            max_tokens=config.max_output_tokens,
            timeout=config.timeout_seconds,
            max_retries=0,
            **options,
            **model.arguments,
        )
        text, finish = _text(response)
        usage = _usage(model, response, messages, text)
    except caught() as error:
        return translate(error, in_full)
    cut = finish == "length"
    if text.strip():
        return Reply(text, model.name, usage, cut)
    if cut:  # it answered, only not with words: that is dear, and no failing call
        said = f"The reply is empty: all {config.max_output_tokens} tokens went into reasoning (max_output_tokens)."
        return Reply(text, model.name, usage, cut, complaint=said)
    return Fault("the reply is empty", usage, again=True)


def _text(response: Any) -> tuple[str, str]:
    """Return the text and why it ended; a reply without choices is an empty text."""
    if not response.choices:
        return "", ""
    choice = response.choices[0]
    return choice.message.content or "", choice.finish_reason or ""


def _usage(model: Model, response: Any, messages: Sequence[Message], text: str) -> Usage:
    """Return what the provider says it counted, or our own count where it says nothing."""
    reported = getattr(response, "usage", None)
    if reported is not None and reported.prompt_tokens:
        return model.usage(reported.prompt_tokens, reported.completion_tokens or 0, reported)
    return model.usage(model.count(messages), _litellm().token_counter(model.name, text=text))


def _sent(message: Message, *, marked: bool) -> dict[str, Any]:
    """Return a message as LiteLLM takes it; `marked`, with the end of what other prompts share as a cache point."""
    if not marked or message.stable < _LEAST_CACHED:
        return {"role": message.role, "content": message.content}
    shared, own = message.content[: message.stable], message.content[message.stable :]
    parts: list[dict[str, Any]] = [{"type": "text", "text": shared, "cache_control": {"type": "ephemeral"}}]
    return {"role": message.role, "content": parts + ([{"type": "text", "text": own}] if own else [])}


@functools.cache
def caught() -> tuple[type[Exception], ...]:
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
