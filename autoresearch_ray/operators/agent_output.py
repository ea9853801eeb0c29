"""What coding agents print in their JSON modes: the words for us, what they used, and whether they failed. Pure.

Told apart by their shape, not by their name, so that a command of one's own works as its preset does. Does not own how
they are run (agent.py, guard.py).

- Claude Code, Cursor: one object, `result`, `is_error`, and Claude's `total_cost_usd` and `usage`
  (https://docs.claude.com/en/docs/claude-code/headless, https://cursor.com/docs/cli/reference/output-format).
- Codex: events, `item.completed` of type `agent_message` and `turn.completed` with its `usage`
  (https://github.com/openai/codex, codex-rs/exec/src/exec_events.rs).
- Gemini: one object, `response`, `stats.models.*.tokens`, `error` (https://geminicli.com/docs/cli/headless).
- opencode: events, `text` and `step_finish` with `cost` and `tokens` (https://github.com/anomalyco/opencode/pull/2810).
- aider: a line of plain text, `Tokens: 4.2k sent, 1.1k received. Cost: $0.03 message, $0.05 session.`
  (https://github.com/Aider-AI/aider, aider/coders/base_coder.py).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from autoresearch_ray.variant import Usage

_UNKNOWN = Usage(priced=False)
_AIDER = re.compile(r"Tokens: ([\d.,]+[kM]?) sent,.*?([\d.,]+[kM]?) received\.(?:\s+Cost: \$([\d.]+) message,)?")
_FACTORS = {"k": 1e3, "M": 1e6}


@dataclass(frozen=True, slots=True)
class Printed:
    """What an agent's output says."""

    text: str
    """Its words: all that it printed where that is no JSON that we know."""
    usage: Usage = _UNKNOWN
    error: str = ""
    """What it says went wrong; empty when it says nothing of the kind."""


def read(output: str) -> Printed:
    """Return what an agent printed, and what it says that it used; what it does not say is not known."""
    values = [value for value in _objects(output) if isinstance(value, dict)]
    for reads in (_result, _codex, _gemini, _opencode):
        if (printed := reads(values)) is not None:
            return printed
    return Printed(output, _aider(output))


def _objects(output: str) -> Iterator[Any]:
    """Yield the JSON values that begin at the beginning of a line, whatever stands between them."""
    decoder, place = json.JSONDecoder(), 0
    while (found := re.compile(r"^[ \t]*\{", re.MULTILINE).search(output, place)) is not None:
        try:
            value, place = decoder.raw_decode(output, found.end() - 1)
        except (ValueError, RecursionError):
            place = found.end()
            continue
        yield value


def _result(values: Iterable[Mapping[str, Any]]) -> Printed | None:
    """Read the last object of Claude Code, or of Cursor."""
    last = next((value for value in reversed(list(values)) if value.get("type") == "result"), None)
    if last is None:
        return None
    text, usage = _text(last.get("result")), _part(last, "usage")
    asked = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    used = _usage(
        sum(_count(usage, name) for name in asked), _count(usage, "output_tokens"), last.get("total_cost_usd")
    )
    wrong = bool(last.get("is_error")) or str(last.get("subtype", "success")).startswith("error")
    return Printed(text, used, (text or str(last.get("subtype"))) if wrong else "")


def _codex(values: Iterable[Mapping[str, Any]]) -> Printed | None:
    values = [value for value in values if str(value.get("type", "")).startswith(("thread.", "turn.", "item."))]
    if not values:
        return None
    items = [_part(value, "item") for value in values if value["type"] == "item.completed"]
    said = [_text(item.get("text")) for item in items if item.get("type") == "agent_message"]
    turns = [_part(value, "usage") for value in values if value["type"] == "turn.completed"]
    failed = [_text(_part(value, "error").get("message")) for value in values if value["type"] == "turn.failed"]
    tokens_in, tokens_out = (sum(_count(turn, name) for turn in turns) for name in ("input_tokens", "output_tokens"))
    return Printed(
        "\n".join(said), _usage(tokens_in, tokens_out, None), failed[-1] or "its turn failed" if failed else ""
    )


def _gemini(values: Iterable[Mapping[str, Any]]) -> Printed | None:
    keys = ({"response", "stats"}, {"session_id", "error"})
    last = next((value for value in reversed(list(values)) if any(each <= value.keys() for each in keys)), None)
    if last is None:
        return None
    models = _part(_part(last, "stats"), "models")
    used = [_part(_part(models, name), "tokens") for name in models]
    tokens_in = sum(_count(each, "prompt") for each in used)
    tokens_out = sum(_count(each, "candidates") + _count(each, "thoughts") for each in used)
    error = _part(last, "error")
    wrong = (_text(error.get("message")) or "it failed") if error else ""
    return Printed(_text(last.get("response")), _usage(tokens_in, tokens_out, None), wrong)


def _opencode(values: Iterable[Mapping[str, Any]]) -> Printed | None:
    values = [value for value in values if isinstance(value.get("part"), dict)]
    if not values:
        return None
    steps = [_part(value, "part") for value in values if value.get("type") == "step_finish"]
    said = [_text(_part(value, "part").get("text")) for value in values if value.get("type") == "text"]
    tokens = [_part(step, "tokens") for step in steps]
    caches = [_part(each, "cache") for each in tokens]
    tokens_in = sum(_count(each, "input") for each in tokens)
    tokens_in += sum(_count(each, "read") + _count(each, "write") for each in caches)
    tokens_out = sum(_count(each, "output") + _count(each, "reasoning") for each in tokens)
    costs = [step.get("cost") for step in steps]
    known = [cost for cost in costs if isinstance(cost, int | float)]
    usd = math.fsum(known) if steps and len(known) == len(steps) else None
    return Printed("\n".join(said), _usage(tokens_in, tokens_out, usd))


def _aider(output: str) -> Usage:
    """Add up the lines in which aider says what a message used."""
    found = list(_AIDER.finditer(output))
    if not found:
        return _UNKNOWN
    tokens_in, tokens_out = (sum(_quantity(each[group]) for each in found) for group in (1, 2))
    priced = all(each[3] for each in found)
    return _usage(tokens_in, tokens_out, math.fsum(float(each[3]) for each in found) if priced else None)


def _usage(tokens_in: int, tokens_out: int, usd: Any) -> Usage:
    used = Usage(tokens_in, tokens_out, priced=False)
    if isinstance(usd, int | float) and not isinstance(usd, bool) and math.isfinite(usd) and usd >= 0:
        return replace(used, usd=float(usd), priced=True)
    return used


def _part(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _count(value: Mapping[str, Any], name: str) -> int:
    found = value.get(name)
    return max(0, found) if isinstance(found, int) else 0


def _quantity(text: str) -> int:
    """Return a number as aider writes it: `950`, `4.2k`, `1.1M`."""
    factor = _FACTORS.get(text[-1], 1.0)
    return round(float(text.rstrip("kM").replace(",", "").rstrip(".")) * factor)
