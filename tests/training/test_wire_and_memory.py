from __future__ import annotations

import fcntl
import os
import socket
import tempfile

import numpy as np
import pytest

from autoresearch_ray.training import memory
from autoresearch_ray.training.wire import Wire, WireClosed, WireTimeout


@pytest.fixture
def ends() -> object:
    a, b = map(Wire, socket.socketpair())
    yield a, b
    a.close()
    b.close()


def test_a_message_brings_its_descriptors(ends: tuple[Wire, Wire]) -> None:
    a, b = ends
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 5)
        file.flush()
        a.send({"n": 1}, [file.fileno(), file.fileno()])
    a.send({"n": 2})
    message, descriptors = b.receive(5.0)
    assert message == {"n": 1}
    assert [os.pread(descriptor, 9, 0) for descriptor in descriptors] == [b"xxxxx", b"xxxxx"]
    for descriptor in descriptors:
        os.close(descriptor)
    assert b.receive(5.0) == ({"n": 2}, [])


def test_a_message_larger_than_one_read_arrives_whole(ends: tuple[Wire, Wire]) -> None:
    a, b = ends
    a.send({"text": "x" * 150_000})
    assert len(b.receive(5.0)[0]["text"]) == 150_000


def test_silence_and_the_end_are_told_apart(ends: tuple[Wire, Wire]) -> None:
    a, b = ends
    with pytest.raises(WireTimeout):
        b.receive(0.0)
    with pytest.raises(WireTimeout):
        b.receive(0.01)
    a.close()
    with pytest.raises(WireClosed):
        b.receive(5.0)
    with pytest.raises(WireClosed):
        b.send({"n": 1})


def test_shared_memory_holds_what_was_written() -> None:
    descriptor = memory.allocate("test", 4096)
    rows = np.arange(12, dtype=np.uint16).reshape(3, 4)
    memory.write(descriptor, rows.data, 100)
    back = np.zeros_like(rows)
    memory.read(descriptor, back.data, 100)
    os.close(descriptor)
    np.testing.assert_array_equal(back, rows)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files have no names here")
def test_flags_that_a_variant_sets_are_its_own() -> None:
    descriptor = memory.allocate("test", 4096)
    theirs = memory.open_apart(descriptor)
    fcntl.fcntl(theirs, fcntl.F_SETFL, os.O_APPEND)
    memory.write(descriptor, memoryview(b"rows"), 8)
    assert os.pread(theirs, 4, 8) == b"rows"
    os.close(theirs)
    os.close(descriptor)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no memfd here")
@pytest.mark.parametrize("size", [0, 8192])
def test_a_variant_cannot_resize_shared_memory(size: int) -> None:
    descriptor = memory.allocate("test", 4096)
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, size)
    os.close(descriptor)


def test_memory_that_was_cut_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    descriptor = memory.allocate("test", 4096)
    os.ftruncate(descriptor, 10)
    with pytest.raises(EOFError, match="cut"):
        memory.read(descriptor, memoryview(bytearray(20)), 0)
    os.close(descriptor)


def test_descriptors_come_with_the_message_they_were_sent_with() -> None:
    here, there = (Wire(end) for end in socket.socketpair())
    with tempfile.TemporaryFile() as first, tempfile.TemporaryFile() as second:
        here.send({"number": 1})
        here.send({"number": 2}, [first.fileno(), second.fileno()])
        here.send({"number": 3})
        here.send({"number": 4}, [second.fileno()])
        received = [there.receive() for _ in range(4)]
        assert [len(descriptors) for _, descriptors in received] == [0, 2, 0, 1]
        assert os.fstat(received[3][1][0]).st_ino == os.fstat(second.fileno()).st_ino
        for _, descriptors in received:
            for descriptor in descriptors:
                os.close(descriptor)
    here.close()
    there.close()


def test_one_batch_of_logits_fits_whatever_the_row_is() -> None:
    assert memory.logits_bytes("cpu", 128, 257) == memory.LEAST_LOGITS_BYTES
    assert memory.logits_bytes("cpu", 65_536, 8192) == 4 * 65_536 * 8192
    assert memory.logits_bytes("cuda", 2048, 8192) == 2 * 65_536 * 8192
    assert memory.logits_bytes("cuda", 2048, 65_536) == 2 * 2**29
    assert memory.logits_bytes("cuda", 65_536, 65_536) == 4 * 65_536 * 65_536
    assert memory.logits_bytes("cuda", 1000, 1001) % memory.GRAIN == 0
