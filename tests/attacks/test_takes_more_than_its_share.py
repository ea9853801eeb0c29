"""Asks the kernel for more than its neighbours get: priority, memory that stays, who is killed first."""

from __future__ import annotations

from arena import Arena

ASK = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)

def call(done):
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return done

def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return text

attempt("nice", lambda: os.nice(-5))
attempt("autogroup", lambda: write("/proc/self/autogroup", "-15"))
attempt("never killed", lambda: write("/proc/self/oom_score_adj", "-900"))
attempt("real time", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50)))
attempt("round robin", lambda: os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1)))
attempt("another group", lambda: write("/sys/fs/cgroup/cgroup.procs", str(os.getpid())))
attempt("first group", lambda: write("/sys/fs/cgroup/pids/cgroup.procs", str(os.getpid())))
attempt("idle memory", lambda: write("/proc/sys/vm/drop_caches", "3"))
attempt("core files", lambda: write("/proc/sys/kernel/core_pattern", "|/bin/true"))
attempt("name of the host", lambda: call(libc.sethostname(b"mine", 4)))
"""


def test_nothing_is_given_that_others_have_not(walled: Arena) -> None:
    found = walled.attack(ASK)
    found.assert_all_refused("nice", "never killed", "real time", "another group", "core files")
    found.assert_trained_honestly()
