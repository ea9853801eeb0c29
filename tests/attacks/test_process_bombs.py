"""Starts processes and threads without end, and opens files without end."""

from __future__ import annotations

import gc
import os

import pytest
from arena import GREETED, SCORED, SHARE, Arena, quick_and_slow, watched

from autoresearch_ray.training import processes
from autoresearch_ray.variant import Status

STARTS = {
    "forks": """
    import time
    def start():
        made = 0
        try:
            while made < 1000:
                if os.fork() == 0: time.sleep(1e6)
                made += 1
        except OSError: pass
        return made
    """,
    "threads": """
    import threading, time
    def start():
        made = 0
        try:
            while made < 1000:
                threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()
                made += 1
        except RuntimeError: pass
        return made
    """,
    "forks of daemons": """
    import time
    def start():
        made = 0
        try:
            while made < 1000:
                if os.fork() == 0:
                    os.setsid()
                    try:
                        if os.fork() == 0: time.sleep(1e6)
                    finally: os._exit(0)
                os.wait()
                made += 1
        except OSError: pass
        return made
    """,
}


@pytest.mark.parametrize("name", ["forks", "threads"])
def test_processes_and_threads(small: Arena, name: str) -> None:
    seen = small.attack(STARTS[name] + "\n    attempt('start', start)\n    os._exit(0)\n")
    assert 4 <= int(seen.done()["start"]) <= SHARE.processes
    assert processes.descendants(small.launcher) == [small.scorer]


FORK_BOMB = """
import os
while True:
    try: os.fork()
    except OSError: pass
"""
FORK_BOMB_OF_SESSIONS = """
import os
while True:
    try:
        if os.fork() == 0: os.setsid()
    except OSError: pass
"""
HYDRA = """
import os
while True:
    try:
        if os.fork(): os._exit(0)
    except OSError: pass
"""
HYDRA_WITH_HEADS = """
import os, signal, time
for number in range(1, 32):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
for _ in range(4):
    if os.fork() == 0:
        while True:
            try:
                if os.fork(): os._exit(0)
                os.setsid()
            except OSError: pass
time.sleep(1)
"""
SHELL_BOMB = """
import subprocess
subprocess.run(["sh", "-c", "b() { b | b & }; b; sleep 1"])
"""
STOPPED_DAEMONS = """
import os
while True:
    try:
        if os.fork() == 0:
            os.setsid()
            try:
                if os.fork() == 0: os.kill(os.getpid(), 19)
            finally: os._exit(0)
        os.wait()
    except OSError: break
"""
SIBLINGS = """
import ctypes, time
libc = ctypes.CDLL(None)
for _ in range(10):
    if libc.syscall(56, 0x8000 | 17, 0, 0, 0, 0) == 0:  # CLONE_PARENT: children of the launcher
        time.sleep(1e6)
"""
BOMBS = {
    "fork bomb": FORK_BOMB,
    "fork bomb of sessions": FORK_BOMB_OF_SESSIONS,
    "hydra": HYDRA,
    "hydra with heads": HYDRA_WITH_HEADS,
    "shell": SHELL_BOMB,
    "stopped daemons": STOPPED_DAEMONS,
    "siblings": SIBLINGS,
}


@pytest.mark.parametrize("name", quick_and_slow(BOMBS, "fork bomb", "hydra", "siblings"))
def test_bombs(small: Arena, name: str) -> None:
    """The machine keeps its processes; all are dead at the end; the slot goes on."""
    seen = watched(small, BOMBS[name])
    assert seen.result.status in (Status.CRASHED, Status.TIMED_OUT), seen.result.reason
    assert seen.processes <= SHARE.processes + 2
    assert processes.descendants(small.launcher) == [small.scorer]
    assert small.run(SCORED).status is Status.COMPLETED


OPENS = """
held = []
def open_many():
    for number in range(100_000):
        held.append(os.open("train.py", os.O_RDONLY))
attempt("open", open_many)
for fd in held: os.close(fd)
attempt("bounded", lambda: len(held) <= FACTS["most"] or 1 / 0)
attempt("raise the limit", lambda: __import__("resource").setrlimit(7, (100_000, 100_000)))
"""


def test_open_files(small: Arena) -> None:
    seen = small.attack(OPENS, most=SHARE.open_files)
    assert set(seen.refused()) == {"open", "raise the limit"}
    seen.assert_trained_honestly()


DESCRIPTORS_IN_FLIGHT = (
    GREETED
    + """
try:
    held = []
    while True:
        pair = socket.socketpair()
        held.append(pair)
        for _ in range(100): socket.send_fds(pair[0], [b"x"], [0] * 200)
except OSError: pass
channel.sendall(json.dumps({"op": "batch", "batch": 2, "length": 16, "loss": None}).encode() + b"\\n")
socket.send_fds(channel, [b'{"op": "batch", "batch": 2, "length": 16, "loss": null}\\n'], [0] * 200)
time.sleep(1)
"""
)


def test_descriptors_sent_to_the_supervisor_are_not_taken(small: Arena) -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        assert small.run(DESCRIPTORS_IN_FLIGHT).status is not Status.LOST
    gc.collect()  # mapped files of earlier experiments
    assert len(os.listdir("/proc/self/fd")) <= before
