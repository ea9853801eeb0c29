from __future__ import annotations

import contextlib
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoresearch_ray.training.protocol import (
    LONGEST_LINE,
    Batch,
    Evaluate,
    Hello,
    LineBuffer,
    Logits,
    ProtocolViolation,
    encode,
    parse,
)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"op": "hello"}, Hello()),
        ({"op": "batch", "batch": 4, "length": 16, "loss": 1.5}, Batch(4, 16, 1.5)),
        ({"op": "batch", "batch": 4, "length": 16, "loss": None}, Batch(4, 16, None)),
        ({"op": "batch", "batch": 4, "length": 16}, Batch(4, 16, None)),
        (
            {"op": "evaluate", "parameters": 0, "peak_memory_bytes": None, "dtype": "bfloat16"},
            Evaluate(0, None, "bfloat16"),
        ),
        ({"op": "evaluate", "parameters": 9, "peak_memory_bytes": 7, "dtype": "float32"}, Evaluate(9, 7, "float32")),
        ({"op": "logits"}, Logits()),
    ],
)
def test_messages_are_understood(fields: dict[str, object], message: object) -> None:
    assert parse(json.dumps(fields).encode()) == message


def test_a_claimed_loss_may_be_no_number_so_that_it_can_be_refused_as_such() -> None:
    message = parse(b'{"op": "batch", "batch": 1, "length": 1, "loss": NaN}')
    assert isinstance(message, Batch)
    assert message.loss is not None
    assert math.isnan(message.loss)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", "not JSON"),
        (b"garbage", "not JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[" * 60_000, "nested too deeply|not JSON"),
        (b'{"op": "batch", "batch": ' + b"9" * 60_000 + b', "length": 1}', "not JSON|integer"),
        (b"[1]", "not a JSON object"),
        (b"{}", "no known 'op'"),
        (b'{"op": "train"}', "no known 'op'"),
        (b'{"op": ["hello"]}', "no known 'op'"),
        (b'{"op": "hello", "more": 1}', "unknown fields"),
        (b'{"op": "batch", "batch": 0, "length": 1}', "'batch' must be an integer"),
        (b'{"op": "batch", "batch": true, "length": 1}', "'batch' must be an integer"),
        (b'{"op": "batch", "batch": 1.0, "length": 1}', "'batch' must be an integer"),
        (b'{"op": "batch", "batch": 1, "length": -1}', "'length' must be an integer"),
        (b'{"op": "batch", "batch": 1, "length": 1e400}', "'length' must be an integer"),
        (b'{"op": "batch", "batch": 1, "length": 1, "loss": "low"}', "'loss' must be a number"),
        (b'{"op": "batch", "batch": 1, "length": 1, "loss": 1' + b"0" * 400 + b"}", "'loss' must be a number"),
        (b'{"op": "evaluate", "parameters": 1, "dtype": "int8"}', "'dtype' must be one of"),
        (b'{"op": "evaluate", "parameters": 1, "dtype": {}}', "'dtype' must be one of"),
        (b'{"op": "evaluate", "parameters": 1, "peak_memory_bytes": -1, "dtype": "float32"}', "peak_memory_bytes"),
    ],
)
def test_anything_else_is_a_violation(line: bytes, words: str) -> None:
    with pytest.raises(ProtocolViolation, match=words):
        parse(line)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)
)
_keys = st.sampled_from(["op", "batch", "length", "loss", "parameters", "peak_memory_bytes", "dtype"])
_operations = st.sampled_from(["hello", "batch", "evaluate", "logits"])


steady = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@steady
@given(st.binary() | st.dictionaries(_keys, _values | _operations).map(lambda fields: json.dumps(fields).encode()))
def test_no_line_raises_anything_but_a_violation(line: bytes) -> None:
    with contextlib.suppress(ProtocolViolation):
        parse(line)


@steady
@given(st.lists(st.binary().map(lambda line: line.replace(b"\n", b"")), max_size=5), st.integers(1, 9))
def test_lines_are_cut_wherever_the_stream_is(lines: list[bytes], step: int) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    buffer = LineBuffer()
    received = [line for i in range(0, len(stream), step) for line in buffer.feed(stream[i : i + step])]
    assert received == lines


@pytest.mark.parametrize("tail", [b"", b"\n", b"\nmore"])
def test_a_line_that_is_too_long_is_a_violation_before_it_ends(tail: bytes) -> None:
    buffer = LineBuffer()
    list(buffer.feed(b"x" * (LONGEST_LINE - 1)))
    with pytest.raises(ProtocolViolation, match="longer than 65536 bytes"):
        list(buffer.feed(b"x" + tail))


def test_the_longest_line_is_accepted() -> None:
    assert list(LineBuffer().feed(b"x" * (LONGEST_LINE - 1) + b"\n")) == [b"x" * (LONGEST_LINE - 1)]


def test_an_answer_is_one_line() -> None:
    assert encode({"error": "two\nlines"}).count(b"\n") == 1
