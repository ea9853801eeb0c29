"""Arbitrary bytes on the channel, against parser and session in this process, and through the socket of a real variant.

Whatever comes, the supervisor goes on: a violation is a verdict, and nothing is ever raised, hung on or served twice.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from arena import Arena
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_data import SEQUENCE_LENGTH, make_data

from autoresearch_ray.training import memory
from autoresearch_ray.training.data import PreparedData, TrainingOrder, open_data
from autoresearch_ray.training.limits import SupervisorSettings
from autoresearch_ray.training.protocol import LONGEST_LINE, LineBuffer, ProtocolViolation, encode, parse
from autoresearch_ray.training.session import REGION_BYTES, AskScorer, Session, greeting
from autoresearch_ray.variant import Status

LENIENT = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]

HELLO = b'{"op":"hello"}\n'
BATCH = b'{"op":"batch","batch":2,"length":16,"loss":2.5}\n'
EVALUATE = b'{"op":"evaluate","parameters":1,"peak_memory_bytes":null,"dtype":"float32"}\n'
LOGITS = b'{"op":"logits"}\n'

numbers = st.one_of(
    st.integers(-2, 40), st.integers(), st.floats(), st.just(2**53), st.just(10**400), st.just(-0.0), st.booleans()
)
values = st.recursive(
    st.one_of(numbers, st.none(), st.text(max_size=8), st.sampled_from(["float32", "bfloat16", "hello"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=4,
)
names = st.sampled_from(["op", "batch", "length", "loss", "parameters", "peak_memory_bytes", "dtype", "val_bpb"])
operations = st.sampled_from(["hello", "batch", "evaluate", "logits", "bye", "HELLO", ""])
objects = st.one_of(
    st.dictionaries(names, values, max_size=5),
    st.builds(lambda op, more: {**more, "op": op}, operations, st.dictionaries(names, values, max_size=4)),
    st.builds(
        lambda b, t, loss: {"op": "batch", "batch": b, "length": t, "loss": loss},
        st.integers(1, 50),
        st.integers(1, 20),
        st.one_of(st.none(), st.floats(0, 20)),
    ),
    st.builds(
        lambda n, dtype: {"op": "evaluate", "parameters": n, "dtype": dtype},
        st.integers(0, 10**9),
        st.sampled_from(["float32", "bfloat16", "float16"]),
    ),
    st.sampled_from([{"op": "hello"}, {"op": "logits"}]),
)
good_lines = objects.map(lambda value: json.dumps(value).encode() + b"\n")
lines = st.one_of(
    good_lines,
    good_lines,
    st.binary(max_size=60).map(lambda raw: raw + b"\n"),
    st.builds(lambda line, cut: line[:cut] + b"\n", good_lines, st.integers(0, 30)),
    st.builds(
        lambda line, at, byte: line[:at] + bytes([byte]) + line[at:],
        good_lines,
        st.integers(0, 30),
        st.integers(0, 255),
    ),
    st.builds(
        lambda byte, count: byte * count,
        st.sampled_from([b"[", b"{", b"9", b'"', b"\n", b" "]),
        st.integers(1, LONGEST_LINE + 9),
    ),
)
streams = st.builds(
    lambda before, parts, cut: before + b"".join(parts)[: cut or None],
    st.sampled_from([b"", HELLO, HELLO + BATCH, HELLO + BATCH + EVALUATE, HELLO + BATCH + EVALUATE + LOGITS]),
    st.lists(lines, min_size=1, max_size=8),
    st.one_of(st.none(), st.integers(1, 200)),
)


class Clock:
    """Advances with every look."""

    def __init__(self) -> None:
        self.looks = 0.0

    def start(self) -> None:
        """Begin."""

    def seconds(self) -> float:
        self.looks += 0.01
        return self.looks


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return open_data(make_data(tmp_path_factory.mktemp("fuzzed") / "data"))


@pytest.fixture(scope="module")
def tokens() -> Iterator[int]:
    descriptor = memory.allocate("tokens", 2 * REGION_BYTES)
    yield descriptor
    os.close(descriptor)


def converse(session: Session, stream: bytes, cuts: list[int]) -> Iterator[str]:
    """Deal with a stream as the event loop does, in pieces; check each answer, and yield what came of it."""
    buffer = LineBuffer()
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        for line in buffer.feed(stream[start:end]):
            before = session.record.tokens
            answer = session.answer(parse(line))
            if isinstance(answer, AskScorer):
                yield answer.request["op"]
                rows = {"rows": 1, "offset": 0, "logits_offset": 0, "length": SEQUENCE_LENGTH}
                session.hear_scorer({"rows": rows})
                continue
            assert encode(answer).endswith(b"\n")
            assert "offset" in answer or session.record.tokens == before
            assert answer.get("offset", 0) in (0, REGION_BYTES)
            yield next(name for name in ("offset", "end", "error", "seed") if name in answer)
            if session.verdict is not None:
                return


def fuzz(data: PreparedData, tokens: int, examples: int) -> None:
    """Try so many streams; also assert that they lead everywhere."""
    reached = set()
    limits = SupervisorSettings(Path("data"), Path("prepare.py"), train_seconds=1.0)

    @settings(max_examples=examples, deadline=None, suppress_health_check=LENIENT, derandomize=True, database=None)
    @given(stream=streams, seed=st.integers(0, 1000), cuts=st.lists(st.integers(0, 300), max_size=4))
    def try_one(stream: bytes, seed: int, cuts: list[int]) -> None:
        hello = greeting(limits, data, seed, logits_bytes=4096)
        session = Session(limits, data, TrainingOrder(data.open_rows("train"), seed), Clock(), tokens, hello)
        try:
            reached.update(converse(session, stream, sorted(min(cut, len(stream)) for cut in cuts)))
        except ProtocolViolation:
            reached.add("violation")
        record = session.record
        assert session.verdict is None or session.verdict.status is Status.CRASHED
        assert 0 <= record.tokens <= record.steps * REGION_BYTES
        assert record.val_bpb is None
        assert all(math.isfinite(loss) for _, loss in record.curve)

    try_one()
    assert reached >= {"seed", "offset", "error", "begin", "logits", "violation"}


def test_streams(data: PreparedData, tokens: int) -> None:
    fuzz(data, tokens, 400)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_thousand_streams(data: PreparedData, tokens: int) -> None:
    fuzz(data, tokens, 10_000)


SEND = """
import os, socket, time
channel = socket.socket(fileno=int(os.environ["AUTORESEARCH_CHANNEL"]))
try:
    for piece in PIECES:
        channel.sendall(piece)
    channel.settimeout(0.02)
    while channel.recv(65536): pass
except OSError: pass
"""


def send(arena: Arena, pieces: list[bytes]) -> None:
    result = arena.run(SEND.replace("PIECES", repr(pieces)))
    assert result.status is Status.CRASHED, result.reason
    assert (result.val_bpb, result.verified) == (None, False)
    assert result.wall_seconds < 30


@settings(max_examples=30, deadline=None, suppress_health_check=LENIENT, derandomize=True, database=None)
@given(pieces=st.lists(streams, min_size=1, max_size=3))
def test_streams_through_a_real_socket(walled: Arena, pieces: list[bytes]) -> None:
    send(walled, pieces)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=300, deadline=None, suppress_health_check=LENIENT, derandomize=True, database=None)
@given(pieces=st.lists(streams, min_size=1, max_size=6))
def test_many_streams_through_a_real_socket(walled: Arena, pieces: list[bytes]) -> None:
    send(walled, pieces)
