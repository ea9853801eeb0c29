"""What coding agents print in their JSON modes, as their documentation shows it, and what is made of other output."""

from __future__ import annotations

import json
from typing import Any

import pytest

from autoresearch_ray.operators import agent_output
from autoresearch_ray.operators.agent_output import Printed
from autoresearch_ray.variant import Usage

SAID = "Done.\nHYPOTHESIS: one more layer"
CLAUDE = {
    "type": "result", "subtype": "success", "is_error": False, "duration_ms": 2400, "num_turns": 3, "result": SAID,
    "session_id": "a", "total_cost_usd": 0.0713,
    "usage": {
        "input_tokens": 12, "cache_creation_input_tokens": 3000, "cache_read_input_tokens": 20_000,
        "output_tokens": 450, "server_tool_use": {"web_search_requests": 0},
    },
}  # fmt: skip
CURSOR = {
    "type": "result",
    "subtype": "success",
    "is_error": False,
    "duration_ms": 1,
    "result": SAID,
    "session_id": "a",
}
CODEX = [
    {"type": "thread.started", "thread_id": "t"},
    {"type": "turn.started"},
    {"type": "item.started", "item": {"id": "0", "type": "command_execution", "command": "ls"}},
    {"type": "item.completed", "item": {"id": "1", "type": "agent_message", "text": SAID}},
    {"type": "turn.completed", "usage": {"input_tokens": 24763, "cached_input_tokens": 24448, "output_tokens": 122}},
]
TOKENS = {"prompt": 24939, "candidates": 20, "total": 25113, "cached": 21263, "thoughts": 154, "tool": 0}
GEMINI = {"response": SAID, "stats": {"models": {"gemini-2.5-pro": {"api": {}, "tokens": TOKENS}}, "tools": {}}}
STEP = {"input": 11087, "output": 145, "reasoning": 5, "cache": {"write": 10, "read": 100}}
OPENCODE = [
    {"type": "step_start", "part": {"type": "step-start"}},
    {"type": "step_finish", "part": {"type": "step-finish", "tokens": STEP, "cost": 0.0070147}},
    {"type": "text", "part": {"type": "text", "text": SAID}},
    {"type": "step_finish", "part": {"type": "step-finish", "tokens": STEP, "cost": 0.01}},
]
AIDER = (
    "Applied edit to train.py\nTokens: 4.2k sent, 1.1k received. Cost: $0.03 message, $0.03 session.\n"
    "Tokens: 950 sent, 2.5k cache hit, 20 received.\nCost: $0.0061 message, $0.04 session.\n"
    "HYPOTHESIS: one more layer\n"
)


def lines(*values: Any) -> str:
    return "".join(f"{json.dumps(value)}\n" for value in values)


@pytest.mark.parametrize(
    ("output", "usage"),
    [
        (lines(CLAUDE), Usage(23_012, 450, 0.0713)),
        (f"npm warn something\n{lines(CLAUDE)}bye\n", Usage(23_012, 450, 0.0713)),
        (lines({"type": "system"}, {"type": "assistant"}, CLAUDE), Usage(23_012, 450, 0.0713)),
        (lines(CURSOR), Usage(priced=False)),
        (lines(*CODEX), Usage(24_763, 122, priced=False)),
        (json.dumps(GEMINI, indent=2), Usage(24_939, 174, priced=False)),
        (f"Loaded cached credentials.\n{json.dumps(GEMINI, indent=2)}\n", Usage(24_939, 174, priced=False)),
        (lines(*OPENCODE), Usage(2 * 11_197, 2 * 150, 0.0170147)),
    ],
)
def test_words_and_usage_of_the_json_modes(output: str, usage: Usage) -> None:
    assert agent_output.read(output) == Printed(SAID, usage)


def test_aider_says_it_in_words() -> None:
    assert agent_output.read(AIDER) == Printed(AIDER, Usage(5150, 1120, 0.0361))
    assert agent_output.read("Tokens: 1.1M sent, 3 received.\n").usage == Usage(1_100_000, 3, priced=False)


@pytest.mark.parametrize(
    ("output", "error"),
    [
        (lines({**CLAUDE, "is_error": True, "result": "Invalid API key"}), "Invalid API key"),
        (lines({**CLAUDE, "subtype": "error_max_turns", "result": None}), "error_max_turns"),
        (lines(*CODEX[:2], {"type": "turn.failed", "error": {"message": "usage limit"}}), "usage limit"),
        (json.dumps({"session_id": "a", "error": {"type": "Auth", "message": "log in", "code": 41}}), "log in"),
    ],
)
def test_what_they_say_went_wrong(output: str, error: str) -> None:
    assert agent_output.read(output).error == error


@pytest.mark.parametrize(
    "output",
    [
        "",
        SAID,
        "{",
        "{}\n",
        '{"a": ' * 20_000,
        "{\n" * 5000,
        lines({"config": 1}, [1], "x", None),
        f"the reply is\n{lines({'hypothesis': 'x', 'part': 3, 'type': 3})}",
        "Tokens: many sent, some received.",
    ],
)
def test_anything_else_is_text_of_unknown_cost(output: str) -> None:
    assert agent_output.read(output) == Printed(output, Usage(priced=False))


@pytest.mark.parametrize("usd", [None, "0.3", -1.0, float("nan"), True, [1]])
def test_a_cost_that_is_none_is_unknown(usd: Any) -> None:
    assert not agent_output.read(lines({**CLAUDE, "total_cost_usd": usd})).usage.priced
    odd = {**CLAUDE, "usage": {"input_tokens": "many", "output_tokens": -3}, "result": 5}
    assert agent_output.read(lines(odd)) == Printed("", Usage(0, 0, 0.0713))
