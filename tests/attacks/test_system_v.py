"""Shares memory, semaphores and messages with others through System V and POSIX, which outlive processes."""

from __future__ import annotations

import ctypes
import os

from arena import Arena

SYSTEM_V = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    if (got := libc.syscall(*arguments)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return got
KEY = FACTS["key"]
attempt("shared memory", lambda: call(29, KEY, 1 << 20, 0o1666))
attempt("semaphores", lambda: call(64, KEY, 100, 0o1666))
attempt("messages", lambda: call(68, KEY, 0o1666))
attempt("posix messages", lambda: call(240, b"evil", 0o102, 0o666, None))
attempt("somebody's memory", lambda: call(30, FACTS["shared"], None, 0))
attempt("remove somebody's memory", lambda: call(31, FACTS["shared"], 0, None))
attempt("list", lambda: call(31, 0, 13, ctypes.create_string_buffer(256)))
"""


def test_system_v(walled: Arena, unwalled: Arena) -> None:
    libc = ctypes.CDLL(None)
    shared = libc.shmget(0, 4096, 0o1666)
    key = 0x5EC0000 + os.getpid() % 65536
    try:
        seen = walled.attack(SYSTEM_V, key=key, shared=shared)
        assert libc.shmctl(shared, 2, ctypes.create_string_buffer(256)) == 0, "it was removed"
        assert libc.shmget(key, 0, 0) == -1, "it was left behind"
        seen.assert_all_refused("shared memory", "semaphores", "messages", "somebody's memory")
        seen.assert_trained_honestly()
        assert {"shared memory", "remove somebody's memory"} <= set(
            unwalled.attack(SYSTEM_V, key=key, shared=shared).done()
        )
    finally:
        libc.shmctl(shared, 0, None)
        libc.shmctl(libc.shmget(key, 0, 0), 0, None)
        libc.semctl(libc.semget(key, 0, 0), 0, 0)
        libc.msgctl(libc.msgget(key, 0), 0, None)
