"""A process between this program and an agent: it ends the agent, and all that it started, when either of us ends.

Run as a script. Standard library only, but for training/processes.py. Does not own what the agent is asked (agent.py).

    python -m autoresearch_ray.operators.guard LIFELINE FOLDER COMMAND [WORD]...

LIFELINE is a pipe's descriptor whose other end this program holds and nobody else: it closes however we end, by SIGKILL
too. FOLDER is where the command starts. Ends as the command does, with 128 + the signal that killed it.
"""

from __future__ import annotations

import os
import selectors
import signal
import sys

from autoresearch_ray.training import processes

NOT_STARTED = 126
"""Exit code when the command cannot be started; the reason is its last line."""
PATIENCE = 10.0
"""Seconds after which what does not die of SIGKILL is given up."""


def main(lifeline: int, folder: str, words: list[str]) -> int:
    """Run a command until it ends or the lifeline closes; return its exit code."""
    processes.adopt_orphans()  # what loses its parent becomes ours, in whatever session it hides
    awake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    command = _started(words, folder, lifeline)
    code = None
    with selectors.DefaultSelector() as selector:
        for descriptor in (lifeline, awake):
            selector.register(descriptor, selectors.EVENT_READ)
        while code is None:
            ready = {key.fd for key, _ in selector.select()}
            if awake in ready and signal.SIGTERM in os.read(awake, 4096):
                break
            for pid, (status, _) in processes.reap(processes.children(os.getpid())).items():
                code = os.waitstatus_to_exitcode(status) if pid == command else code
            if lifeline in ready:
                break
    processes.end_descendants((), PATIENCE)
    return 128 + signal.SIGTERM if code is None else code if code >= 0 else 128 - code


def _started(words: list[str], folder: str, lifeline: int) -> int:
    """Fork the command, which dies with this process should that be killed; return its process id."""
    parent = os.getpid()
    command = os.fork()
    if command:
        return command
    try:
        os.close(lifeline)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        processes.die_with_parent(parent)
        os.chdir(folder)
        os.execvp(words[0], words)
    except OSError as error:
        os.write(1, f"{error.strerror}\n".encode())
    finally:
        os._exit(NOT_STARTED)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
