"""The configured language models together: who is asked, how often, and within which cap. Answers with values.

Owns choice, retries, rate limits, fallbacks and the bench. Does not own one call (llm.py), the arithmetic of the cap
(purse.py), or what is asked (prompt.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from autoresearch_ray.config import LlmConfig
from autoresearch_ray.errors import ConfigError
from autoresearch_ray.operators import bandit, credentials, llm
from autoresearch_ray.operators.bandit import Arm
from autoresearch_ray.operators.bench import Bench
from autoresearch_ray.operators.edit import one_line
from autoresearch_ray.operators.faults import Fault
from autoresearch_ray.operators.llm import Model, Reply
from autoresearch_ray.operators.purse import Purse
from autoresearch_ray.operators.request import Message
from autoresearch_ray.operators.throttle import Throttle
from autoresearch_ray.variant import Usage

_LONGEST_REASON = 300
_TYPICAL_TOKENS = (8000, 1500)
# Of a prompt and a reply: what a call is taken to cost before there was one.
_CHECK = (Message("user", "Reply with the single word: ready"),)


@dataclass(frozen=True, slots=True)
class CallFailed:
    """No reply, after all attempts and all models that could be asked."""

    reason: str
    """One sentence, without keys."""
    usage: Usage
    down: bool = False
    """Whether there is nobody left to ask for now: every model is left alone because it failed."""
    attempts: tuple[str, ...] = ()
    """What failed before, oldest first."""
    transient: bool = False
    """Whether it may pass by itself: a rate limit, an overloaded server."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """What `check` found."""

    usage: Usage
    """What the check itself cost."""
    call_usd: float
    """The most that one call may cost, a full prompt and a full reply of the dearest model; 0 without a price."""


def total(first: Usage, second: Usage) -> Usage:
    """Return what two calls cost together."""
    return Usage(
        first.tokens_in + second.tokens_in,
        first.tokens_out + second.tokens_out,
        first.usd + second.usd,
        first.priced and second.priced,
    )


@dataclass
class _Account:
    """What is known of one model in this sitting."""

    arm: Arm
    calls: int = 0
    usd: float = 0.0


@dataclass
class _Attempts:
    """What one question has cost so far, and what went wrong."""

    usage: Usage = field(default_factory=Usage)
    failed: list[str] = field(default_factory=list)


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
        training_usd: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask nothing yet.

        Args:
            settings: models and how to call them; at least one.
            keys: credentials by the names of their environment variables, see `credentials.take`.
            cap_usd: dollars that may be spent over the whole run; None is no limit.
            spent_usd: dollars spent before.
            training_usd: what one training is worth; it is weighed with what a call costs.
            sleep: waits between attempts.
            clock: seconds, for rate limits and the bench.
        """
        self.settings = settings
        self._keys = dict(keys)
        self.purse = Purse(cap_usd, spent_usd)
        self._training_usd = training_usd
        self._sleep = sleep
        self._clock = clock
        self._lock = threading.Lock()
        self._preparing = threading.Lock()
        self._prepared: dict[str, Model] | None = None  # looked up when first asked, which takes seconds
        self._accounts: dict[str, _Account] = {}
        self._bench = Bench()
        self._learnt: set[str] = set()
        self._throttles = {
            model.name: Throttle(model.requests_per_minute, model.tokens_per_minute) for model in settings.models
        }

    def __repr__(self) -> str:
        return f"LanguageModels({', '.join(model.name for model in self.settings.models)})"

    @property
    def edits(self) -> bool:
        """Never: models answer with a text."""
        return False

    @property
    def max_prompt_tokens(self) -> int:
        """Tokens that a prompt may have."""
        return self.settings.max_prompt_tokens

    def count(self, messages: Sequence[Message]) -> int:
        """Count the tokens of messages, as far as LiteLLM knows the first model's tokenizer."""
        return next(iter(self._models.values())).count(messages)

    def redact(self, text: str) -> str:
        """Return a text without the keys, and without what else looks like one."""
        return credentials.redact(text, self._keys)

    def check(self) -> Readiness:
        """Find out before the first birth whether every model can be asked, with one tiny call each.

        One that is overloaded, or over a rate limit, is only taken for failing: that passes.

        Raises:
            ConfigError: a model is unknown, its key is missing or refused, its price is not known under a cap, the cap
                is too low for a single call, or nobody answers.
        """
        usage, dearest = Usage(), 0.0
        for model in self._models.values():
            if self.purse.cap is not None and not model.priced:
                raise ConfigError(
                    f"The price of {model.name} is not known, so max_cost_usd cannot be kept: set its "
                    "usd_per_million_input and usd_per_million_output (0 if it is your own), or max_cost_usd=null."
                )
            dearest = max(dearest, model.in_full(self.settings.max_prompt_tokens).usd)
            answer = self._call(model, _CHECK, np.random.default_rng(0), attempts=min(2, self._tries(model)))
            usage = total(usage, answer.usage)
            if isinstance(answer, Reply) and answer.complaint:
                raise ConfigError(f"{model.name}: {answer.complaint}")
            if isinstance(answer, CallFailed) and not answer.transient:
                base = model.config.api_base or self.settings.api_base
                where = f" Its address is {base} (llm.api_base)." if base else ""
                raise ConfigError(f"{answer.reason}{where}")
        return Readiness(usage, dearest)

    def ask(
        self, messages: Sequence[Message], rng: np.random.Generator, model: str | None = None
    ) -> Reply | CallFailed:
        """Ask one model, again where that may help, and then another one.

        Args:
            messages: the conversation so far.
            rng: chooses the model, and varies the pauses between attempts.
            model: the name of the model to ask first, where it is not to be chosen.

        Raises:
            ConfigError: a model is unknown or its key is missing (see `check`).
        """
        order = self._order(rng, model)
        if not order:
            return self._nobody()
        spent, failure = _Attempts(), ""
        for chosen in order if self.settings.fallback else order[:1]:
            answer = self._call(chosen, messages, rng, attempts=self._tries(chosen))
            spent.usage = total(spent.usage, answer.usage)
            spent.failed += answer.attempts
            if isinstance(answer, Reply):
                return replace(answer, usage=spent.usage, attempts=tuple(spent.failed))
            failure = answer.reason
        down = not any(self._ready(name) for name in self._models)
        return CallFailed(failure, spent.usage, down=down, attempts=tuple(spent.failed))

    def learn(self, variant_id: str, model: str, win: float) -> None:
        """Take in what a variant came to, once; `win` is the probability that it beat its parent."""
        known = self._models
        with self._lock:
            if model not in known or variant_id in self._learnt:
                return
            self._learnt.add(variant_id)
            for account in self._accounts.values():
                account.arm = account.arm.faded()
            arm = self._accounts[model].arm
            self._accounts[model].arm = replace(arm, wins=arm.wins + win, losses=arm.losses + 1 - win)

    # ------------------------------------------------------------------------------------------------------ the choice

    @property
    def _models(self) -> dict[str, Model]:
        """The models by name (Raises ConfigError: one is unknown or its key is missing)."""
        with self._preparing:
            if self._prepared is None:
                settings = self.settings
                self._prepared = {
                    config.name: llm.prepare(config, settings.api_base, self._keys, caching=settings.prompt_caching)
                    for config in settings.models
                }
                self._accounts = {
                    name: _Account(Arm(model.config.weight, model.usage(*_TYPICAL_TOKENS).usd))
                    for name, model in self._prepared.items()
                }
            return self._prepared

    def _order(self, rng: np.random.Generator, first: str | None) -> list[Model]:
        """Return the models that may be asked now, in the order in which they are."""
        names = [name for name in self._models if self._ready(name)]
        if not names:
            return []
        if len(names) == 1:
            return [self._models[names[0]]]
        drawn = rng.choice(len(names), size=len(names), replace=False, p=self._chances(names, rng))
        order = [names[int(index)] for index in drawn]
        if first in order:
            order = [first, *(name for name in order if name != first)]
        return [self._models[name] for name in order]

    def _chances(self, names: Sequence[str], rng: np.random.Generator) -> NDArray[np.float64]:
        with self._lock:
            arms = [self._arm(name) for name in names]
        if self.settings.selection == "bandit":
            return bandit.chances(arms, rng)
        weights = np.array([arm.weight for arm in arms])
        shares: NDArray[np.float64] = weights / weights.sum()
        return shares

    def _arm(self, name: str) -> Arm:
        """Return what the bandit is to know of a model: its calls' average cost, as expected before the first."""
        account = self._accounts[name]
        call_usd = (account.arm.usd + account.usd) / (1 + account.calls)
        return replace(account.arm, usd=call_usd + self._training_usd)

    def _ready(self, name: str) -> bool:
        with self._lock:
            return self._bench.seconds_left(name, self._clock()) <= 0

    def _nobody(self) -> CallFailed:
        with self._lock:
            now = self._clock()
            left = {name: self._bench.seconds_left(name, now) for name in self._models}
            soonest = min(left, key=left.__getitem__)
            reason = self._bench.reason(soonest)
        return CallFailed(
            f"No language model answers; {soonest} is asked again in {left[soonest]:.0f} s. {reason}".strip(),
            Usage(),
            down=True,
        )

    # ------------------------------------------------------------------------------------------------------- one model

    def _tries(self, model: Model) -> int:
        retries = self.settings.retries if model.config.retries is None else model.config.retries
        return retries + 1

    def _call(
        self, model: Model, messages: Sequence[Message], rng: np.random.Generator, attempts: int
    ) -> Reply | CallFailed:
        in_full = model.in_full(model.count(messages))
        spent = _Attempts()
        for attempt in range(attempts):
            if not self.purse.reserve(in_full.usd):
                return self._too_dear(model, in_full, spent)
            answer = self._attempt(model, messages, in_full)
            self._settle(model, in_full.usd, answer.usage.usd)
            spent.usage = total(spent.usage, answer.usage)
            if isinstance(answer, Reply):
                with self._lock:
                    self._bench.answered(model.name)
                return replace(answer, usage=spent.usage, attempts=tuple(spent.failed))
            reason = one_line(credentials.redact(answer.reason, self._keys), _LONGEST_REASON)
            spent.failed.append(f"{model.name}: {reason}")
            if answer.retry_after:
                self._throttles[model.name].hold(self._clock() + answer.retry_after)
            pause = answer.pause(attempt, rng)
            if pause is None or attempt + 1 == attempts or not self._ready(model.name):
                tries = f" ({attempt + 1} attempts)" if attempt else ""
                sentence = f"{model.name}: {reason}{tries}."
                if answer.blames_model:
                    with self._lock:
                        self._bench.failed(model.name, self._clock(), sentence)
                return CallFailed(
                    sentence, spent.usage, attempts=tuple(spent.failed), transient=answer.again and answer.reached
                )
            self._sleep(pause)
        raise ValueError(f"a call needs at least one attempt, not {attempts}")

    def _attempt(self, model: Model, messages: Sequence[Message], in_full: Usage) -> Reply | Fault:
        """Wait for the model's turn, and make one call."""
        now = self._clock()
        start = self._throttles[model.name].book(now, in_full.tokens_in + in_full.tokens_out)
        if start > now:
            self._sleep(start - now)
        return model.ask(messages, in_full)

    def _settle(self, model: Model, reserved: float, usd: float) -> None:
        self.purse.settle(reserved, usd)
        with self._lock:
            self._accounts[model.name].calls += 1
            self._accounts[model.name].usd += usd

    def _too_dear(self, model: Model, in_full: Usage, spent: _Attempts) -> CallFailed:
        left = max(0.0, (self.purse.cap or 0.0) - self.purse.spent)
        reason = f"A call of {model.name} may cost ${in_full.usd:.4f}, and max_cost_usd leaves ${left:.4f}."
        return CallFailed(reason, spent.usage, attempts=tuple(spent.failed))
