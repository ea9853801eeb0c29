"""Turns what it shares with the trusted side against it: flags, locks, owners and seals of one open file."""

from __future__ import annotations

import pytest
from arena import GREETED, SCORED, Arena

from autoresearch_ray.variant import Status

FLAGS = """
import fcntl
for descriptor in (4, 5):
    held = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, held | FLAG)
    os.write(1, b"set %d\\n" % (fcntl.fcntl(descriptor, fcntl.F_GETFL) & FLAG))
"""
BEFORE = GREETED + FLAGS + SCORED.removeprefix(GREETED)
WHILE_SCORED = SCORED.replace("answer = evaluate()\n", "answer = evaluate()\n" + FLAGS)
CHANGES = {
    "appends": "os.O_APPEND",
    "does not wait": "os.O_NONBLOCK",
    "asks for signals": "os.O_ASYNC",
    "goes round the cache": "os.O_DIRECT",
}


@pytest.mark.parametrize("when", ["before", "while it is scored"])
@pytest.mark.parametrize("name", CHANGES)
def test_flags_of_a_shared_memory_hurt_nobody_but_who_sets_them(walled: Arena, name: str, when: str) -> None:
    """Where a description is shared, so are its flags: with O_APPEND a `pwrite` would go to the end of the file."""
    source = (BEFORE if when == "before" else WHILE_SCORED).replace("FLAG", CHANGES[name])
    result = walled.run(source)
    plain = walled.run(SCORED)
    assert result.status in (Status.COMPLETED, Status.CRASHED), result.reason
    if result.status is Status.COMPLETED:
        assert result.val_bpb == plain.val_bpb
    assert plain.status is Status.COMPLETED


POSITIONS = """
for descriptor in (4, 5):
    os.lseek(descriptor, 12_345, os.SEEK_SET)
    attempt(f"punched {descriptor}", lambda: fallocate(descriptor, 3, 0, 4096))
    attempt(f"locked {descriptor}", lambda: fcntl.flock(descriptor, fcntl.LOCK_EX))
    attempt(f"range {descriptor}", lambda: fcntl.lockf(descriptor, fcntl.LOCK_EX))
    attempt(f"sealed {descriptor}", lambda: fcntl.fcntl(descriptor, 1033, 8))
    attempt(f"sealed later {descriptor}", lambda: fcntl.fcntl(descriptor, 1033, 16))
    attempt(f"cut {descriptor}", lambda: os.ftruncate(descriptor, 0))
    attempt(f"grew {descriptor}", lambda: os.ftruncate(descriptor, 1 << 40))
"""
CALLS = """
import ctypes, fcntl
libc = ctypes.CDLL(None, use_errno=True)
def fallocate(*arguments):
    if libc.fallocate(arguments[0], arguments[1], ctypes.c_long(arguments[2]), ctypes.c_long(arguments[3])):
        raise OSError(ctypes.get_errno(), "fallocate")
"""


def test_positions_locks_holes_and_seals_change_nothing_for_the_trusted_side(walled: Arena) -> None:
    found = walled.attack(CALLS + POSITIONS)
    found.assert_trained_honestly()
    for descriptor in (4, 5):
        for name in ("sealed", "sealed later", "cut", "grew"):
            assert f"{name} {descriptor}" in found.refused()
