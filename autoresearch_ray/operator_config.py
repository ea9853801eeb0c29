"""The sections of the configuration that say who breeds: language models, a coding agent, or a person with an inbox.

Owns names, ranges and defaults of `llm:` and `operator:`. Does not own what they mean to a room (operators/).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """A part of the configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ModelConfig(Section):
    """One language model that breeds."""

    name: str = Field(min_length=1)
    """As LiteLLM names it, provider first: `anthropic/claude-sonnet-4-5`, `openai/gpt-5-mini`, `ollama/qwen3`."""
    weight: float = Field(1.0, gt=0)
    """How often this model is asked, relative to the others' weights; with `llm.selection: bandit` only at first."""
    usd_per_million_input: float | None = Field(None, ge=0)
    """Dollars for a million prompt tokens; null takes LiteLLM's table, and `max_cost_usd` needs one of the two."""
    usd_per_million_output: float | None = Field(None, ge=0)
    """Dollars for a million tokens of replies, reasoning included; given together with `usd_per_million_input`."""
    api_base: str | None = None
    """Address of this model's server; null is `llm.api_base`."""
    temperature: float | None = Field(None, ge=0.0, le=2.0)
    """Randomness of the replies: 0 repeats itself, 2 rambles; null is the provider's default."""
    reasoning_effort: Literal["minimal", "low", "medium", "high"] | None = None
    """How long the model may think before it answers; null is the provider's default. What it thinks is paid for and
    counts towards `max_output_tokens`. A model that cannot be told ends the run before its first birth."""
    max_output_tokens: int = Field(16_384, ge=256)
    """Longest reply, reasoning included. Each call reserves so many under `max_cost_usd`; too few cut replies short."""
    timeout_seconds: float = Field(300.0, gt=0, le=3600)
    """Wall-clock allowance of one call. A call that takes longer is given up, and paid for as if it had answered."""
    retries: int | None = Field(None, ge=0, le=10)
    """Further attempts after a failure that may pass; null is `llm.retries`."""
    requests_per_minute: int | None = Field(None, ge=1)
    """At most so many calls in any 60 seconds; those beyond wait their turn. Null is no limit of ours."""
    tokens_per_minute: int | None = Field(None, ge=1000)
    """At most so many tokens in any 60 seconds, a call counted as its prompt and its longest reply; a call that alone
    is larger waits until nothing else was sent for 60 seconds. Null is no limit of ours."""

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if (self.usd_per_million_input is None) != (self.usd_per_million_output is None):
            raise ValueError(
                f"the price of {self.name} is half: "
                "usd_per_million_input and usd_per_million_output must be given together"
            )
        return self


class LlmConfig(Section):
    """The language models that mutate, cross over, repair and reflect. Without models the run is offline."""

    models: tuple[ModelConfig, ...] = ()
    """One or several; each birth asks one of them. Empty: no language model, no key, no cost."""
    api_base: str | None = None
    """Address of an OpenAI-compatible server, as in `http://127.0.0.1:8000/v1`; null asks the provider's own."""
    selection: Literal["bandit", "weights"] = "bandit"
    """Who is asked: `weights` by the models' weights alone; `bandit` begins so, and then prefers the model whose
    variants beat their parents most often for what they cost, calls and trainings together."""
    usd_per_slot_hour: float = Field(2.0, ge=0)
    """What an hour of a slot is worth to you, in dollars. The dearer a training is next to a call, the less a model's
    price counts in the `bandit`'s choice; at 0 only calls cost, and a model without a price wins whatever it brings."""
    fallback: bool = True
    """Whether another model is asked where one fails. A model that fails three times in a row is left alone for a
    minute, then for twice as long each time, at most half an hour."""
    prompt_caching: bool = True
    """Mark what all prompts of a run share, where a provider caches only what is marked; others do so by themselves."""
    max_prompt_tokens: int = Field(32_000, ge=1000)
    """Longest prompt. What is left out of a longer one, and in which order, says docs/operators.md."""
    retries: int = Field(3, ge=0, le=10)
    """Further attempts after a failure that may pass (rate limit, server error, time-out), with growing pauses."""
    parameters_share: float | None = Field(None, ge=0.0, le=1.0)
    """Share of one-parent births that turn numbers without a language model. 0 asks for each birth; 1 never does; null
    adapts it to what both have brought in this run for what they cost."""
    reasoned_crossovers: float = Field(0.25, ge=0.0, le=1.0)
    """Share of the crossovers whose parents can simply be merged that ask a language model all the same. Parents that
    changed the same lines are always its affair."""
    repair_attempts: int = Field(1, ge=0, le=10)
    """How many times in a row a variant that crashes before it has trained for long is given back with its traceback.
    0 never does; each attempt is a birth of its own, with the operator `repair`."""
    reflect_every: int | None = Field(None, ge=5)
    """After so many births one call reads what worked and what failed and writes notes that later prompts carry. Null
    never does: what it brings for its tokens has not been shown."""
    novelty: float = Field(0.9, gt=0.0, le=1.0)
    """How like a change may be to one that failed before it is given back: 1 only where it is the same."""

    @model_validator(mode="after")
    def _check(self) -> LlmConfig:
        named = Counter(model.name for model in self.models)
        if named and (name := max(named, key=named.__getitem__)) and named[name] > 1:
            raise ValueError(f"llm.models name {name} {named[name]} times: each model must stand there once")
        return self


PRESETS: dict[str, tuple[str, ...]] = {
    "claude": ("claude", "-p", "--output-format", "json", "--permission-mode", "acceptEdits"),
    "codex": ("codex", "exec", "--json", "--skip-git-repo-check", "--sandbox", "workspace-write", "-"),
    "gemini": ("gemini", "--output-format", "json", "--approval-mode", "auto_edit", "-p", "{prompt}"),
    "copilot": ("copilot", "--allow-all-tools", "-p", "{prompt}"),
    "cursor": ("cursor-agent", "--print", "--output-format", "json", "--trust", "--force", "{prompt}"),
    "opencode": ("opencode", "run", "--format", "json", "{prompt}"),
    "aider": ("aider", "--yes-always", "--no-git", "--no-auto-commits", "--message-file", "{prompt_file}", "{file}"),
}
"""How the common coding agents are run once, without questions and with the right to edit the files of their folder,
so that they say what they used (operators/agent_output.py reads it) where they can.
A word `{prompt}` becomes the prompt, `{prompt_file}` the file that holds it, `{file}` the evolved file; without either
of the first two the prompt comes on standard input."""


class OperatorConfig(Section):
    """Who is asked for mutations and crossovers: language models, a command-line coding agent, or a person."""

    kind: Literal["models", "agent", "inbox"] = "models"
    """`models`: those of `llm.models`. `agent`: a command edits train.py in a folder of its own. `inbox`: the request
    is written to a folder, and whoever likes answers it. `operator: inbox` and `operator: claude` are short."""
    preset: Literal["claude", "codex", "gemini", "copilot", "cursor", "opencode", "aider"] | None = None
    """A known agent, run as `PRESETS` says; it must be installed and logged in. No API key is needed."""
    command: tuple[str, ...] | None = None
    """The agent's command, word by word; `{prompt}`, `{prompt_file}` and `{file}` are filled in, and without a prompt
    among the words it comes on standard input. Null is the preset's."""
    environment: tuple[str, ...] = ()
    """Credentials that the agent sees, by the names of their variables, as `ANTHROPIC_API_KEY`; it sees no other."""
    timeout_seconds: float = Field(1800.0, gt=0, le=86_400)
    """Wall-clock seconds for one answer. An agent that takes longer is killed with all it started; a request that
    nobody answers in time is taken back."""
    usd_per_million_input: float | None = Field(None, ge=0)
    """Dollars for a million tokens that the agent says it read; with the next key, instead of what it says itself. Both
    0 on a subscription: `max_cost_usd` counts nothing then. Null takes what the agent says, and where it says nothing
    the run warns that `max_cost_usd` cannot hold."""
    usd_per_million_output: float | None = Field(None, ge=0)
    """Dollars for a million tokens that the agent says it wrote; given together with `usd_per_million_input`."""
    at_once: int = Field(2, ge=1, le=16)
    """Requests that are open at a time; the other births turn numbers meanwhile."""
    folder: Path | None = None
    """`inbox` only: where the requests are written; null is the folder `inbox` of the run."""

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"kind": "agent", "preset": value} if value in PRESETS else {"kind": value}
        given = ("command", "preset", "environment")
        if isinstance(value, dict) and "kind" not in value and any(value.get(name) is not None for name in given):
            return {"kind": "agent", **value}
        return value

    @model_validator(mode="after")
    def _check(self) -> OperatorConfig:
        if self.kind == "agent" and not self.words:
            raise ValueError(
                f"operator has no command: name one word by word, or a preset, one of {', '.join(PRESETS)}"
            )
        if self.kind != "agent" and (self.command or self.preset):
            raise ValueError(f"operator.kind is {self.kind!r}: a command or preset needs the kind agent")
        if (self.usd_per_million_input is None) != (self.usd_per_million_output is None):
            raise ValueError(
                "the price of operator is half: usd_per_million_input and usd_per_million_output must be given together"
            )
        if self.kind != "agent" and self.usd_per_million_input is not None:
            raise ValueError(f"operator.kind is {self.kind!r}: only an agent has a price")
        if self.kind != "inbox" and self.folder is not None:
            raise ValueError(f"operator.folder is {str(self.folder)!r}: only operator.kind inbox has a folder")
        return self

    @property
    def words(self) -> tuple[str, ...]:
        """The agent's command, word by word; empty when there is none."""
        return self.command or (PRESETS[self.preset] if self.preset else ())
