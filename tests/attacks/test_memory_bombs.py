"""Takes all the memory there is: on the heap, mapped, in memory files, pipes, socket buffers, many children."""

from __future__ import annotations

import pytest
from arena import SCORED, SHARE, Arena, quick_and_slow, watched

from autoresearch_ray.variant import Status

HEAP = """
held = []
while True:
    held.append(bytearray(b"x") * (16 << 20))
"""
MAPPED = """
import mmap
held = []
while True:
    held.append(mmap.mmap(-1, 16 << 20))
    held[-1].write(b"x" * (16 << 20))
"""
TENSORS = """
import torch
held = []
while True:
    held.append(torch.ones(4 << 20))
"""
MEMORY_FILES = """
import os
while True:
    os.write(os.memfd_create("x"), b"x" * (16 << 20))
"""
CHILDREN = """
import os, time
while True:
    if os.fork() == 0:
        held = bytearray(b"x") * (64 << 20)
        time.sleep(1e6)
    time.sleep(0.02)
"""
CHANNEL_MEMORIES = """
import os
while True:
    for fd in (4, 5):
        os.pwrite(fd, b"x" * (1 << 20), os.fstat(fd).st_size)
"""
PIPES = """
import fcntl, os
while True:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, 1031, 1 << 20)  # F_SETPIPE_SZ
    os.set_blocking(writer, False)
    os.write(writer, b"x" * (1 << 20))
"""
SOCKET_BUFFERS = """
import socket
held = []
while True:
    pair = socket.socketpair()
    pair[0].setblocking(False)
    held.append(pair)
    try:
        while True: pair[0].send(b"x" * 65536)
    except BlockingIOError: pass
"""
SHARED_FOLDER = """
number = 0
while True:
    number += 1
    with open(f"/dev/shm/{number}", "wb") as file: file.write(b"x" * (16 << 20))
"""
NAMED = {"heap": HEAP, "mapped": MAPPED, "tensors": TENSORS, "children": CHILDREN}
HIDDEN = {
    "memory files": MEMORY_FILES,
    "memories of the channel": CHANNEL_MEMORIES,
    "pipes": PIPES,
    "socket buffers": SOCKET_BUFFERS,
    "shared folder": SHARED_FOLDER,
}


@pytest.mark.parametrize("name", quick_and_slow(NAMED, "heap", "children"))
def test_memory_of_its_processes(small: Arena, name: str) -> None:
    """More than its share ends the experiment, with that reason, and it never took much more from the machine."""
    seen = watched(small, NAMED[name])
    assert seen.result.status is Status.CRASHED
    assert "memory" in seen.result.reason.lower()
    assert seen.memory < 2 * (SHARE.memory_bytes or 0)
    assert small.run(SCORED).status is Status.COMPLETED


@pytest.mark.parametrize("name", quick_and_slow(HIDDEN, "memory files", "shared folder"))
def test_memory_of_no_process(small: Arena, name: str) -> None:
    """What only the kernel holds is bounded too; the trusted processes live on."""
    seen = watched(small, HIDDEN[name])
    assert seen.result.status in (Status.CRASHED, Status.TIMED_OUT)
    assert seen.memory < 2 * (SHARE.memory_bytes or 0)
    assert small.run(SCORED).status is Status.COMPLETED
