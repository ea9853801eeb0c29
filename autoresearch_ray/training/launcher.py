"""The process that experiments are forked from: it has imported torch once, and does nothing else that could hurt them.

Started by exec with a clean environment (launching.py). Single-threaded: no tensor work, no CUDA query, no Ray, no
pyarrow. Knows no secret: neither data, nor targets, nor keys, because its children inherit its memory.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import importlib
import os
import resource
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import threading
import traceback
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TextIO

from autoresearch_ray.training import processes
from autoresearch_ray.training.sandbox import identity, probe, tensors, walls
from autoresearch_ray.training.sandbox.walls import Walls
from autoresearch_ray.training.wire import Wire, WireClosed

CHANNEL, DATA, LOGITS = 3, 4, 5
"""Descriptors of a variant's process, besides the standard ones."""
PRELOADED = {
    "cpu": ("numpy", "torch", "torch._dynamo"),
    "cuda": ("numpy", "torch", "torch._dynamo", "torch._inductor.compile_fx"),
    "meta": ("numpy", "torch", "torch._dynamo", "autoresearch_ray.training.warm_meta"),
    "nothing": (),
}
"""Modules imported ahead, by device; `meta` only builds models, and nothing is for programs that report their own
score. Optimizers import torch._dynamo at their first step, also where nothing is compiled."""
PATIENCE = 60.0
"""Seconds after which a process that does not die of SIGKILL is given up."""
CROWD = 20
"""More processes than that are ended all at once, where they have an identity of their own."""


@dataclass(frozen=True, slots=True)
class Program:
    """What a child is to become: a Python script run in this interpreter, or a command."""

    scratch: Path
    """Its folder, where all that it needs lies and all that it makes."""
    folder: Path
    """Where it starts, in its scratch folder."""
    environment: dict[str, str]
    command: tuple[str, ...]
    """Script and arguments when `library` is given, else any command."""
    library: Path | None
    """The folder that a script imports from first; None starts a command afresh."""


class Launcher:
    """Answers the supervisor: forks variants and the scorer, says who ended, and ends what is left."""

    def __init__(self, wire: Wire, around: Walls | None) -> None:
        self._wire = wire
        self._walls = around
        self._pinned: int | None = None
        self._kills = 0
        self._variant: int | None = None
        self._scorer: int | None = None
        self._wakeup, self._waker = socket.socketpair()
        self._waker.setblocking(False)

    def serve(self) -> None:
        """Do what the supervisor asks for until it is gone; then end everything."""
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        selector = selectors.DefaultSelector()
        selector.register(self._wire, selectors.EVENT_READ)
        selector.register(self._wakeup, selectors.EVENT_READ)
        with contextlib.suppress(WireClosed):
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._wakeup in ready:
                    self._wakeup.recv(4096)
                    self._report_ended()
                if self._wire in ready:
                    self._answer()
        processes.end_descendants((), PATIENCE)

    def _report_ended(self) -> None:
        """Reap what has ended; only the variant's own process and the scorer are worth a word."""
        for pid, (status, peak) in processes.reap(processes.children(os.getpid())).items():
            code = os.waitstatus_to_exitcode(status)
            if pid == self._variant:
                self._variant = None
                self._wire.send({"ended": "variant", "code": code, **self._memory(peak)})
            elif pid == self._scorer:
                self._scorer = None
                self._wire.send({"ended": "scorer", "code": code})

    def _answer(self) -> None:
        request, descriptors = self._wire.receive()
        if request["op"] == "clear":
            self._clear()
        else:
            self._wire.send(self._fork(request, descriptors))

    def _fork(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        """Start what is asked for, wait until it stands inside its walls, and return what is to be said of it."""
        parent = os.getpid()
        inside, report = os.pipe()
        around = None if request["op"] == "scorer" else self._walls
        try:
            if around is not None:
                around.prepare()
                self._kills = around.kills()
            pid = os.fork()
        except OSError as error:
            pid, failure = -1, f"fork: {error.strerror}"
        if pid == 0:
            become(request, descriptors, parent, around, report)
        for descriptor in (*descriptors, report):
            os.close(descriptor)
        if pid > 0:
            self._pin(pid, request["op"])
            with open(inside, "rb") as told:
                failure = told.read().decode()
        return {"failed": failure} if failure else {"forked": pid}

    def _pin(self, pid: int, operation: str) -> None:
        """Note who was started; hold on to its entry in /proc, or its walls would one day take that for another's."""
        if operation == "scorer":
            self._scorer = pid
            return
        self._variant = pid
        self._unpin()
        if self._walls is not None:
            with contextlib.suppress(OSError):
                self._pinned = os.open(f"/proc/{pid}", os.O_PATH | os.O_CLOEXEC)

    def _unpin(self) -> None:
        if self._pinned is not None:
            os.close(self._pinned)
            self._pinned = None

    def _clear(self) -> None:
        """End everything but the scorer."""
        spared = () if self._scorer is None else (self._scorer,)
        if self._walls is not None and self._walls.uid is not None and len(processes.descendants(os.getpid())) > CROWD:
            identity.end_all(self._walls.uid)
        ended = processes.end_descendants(spared, PATIENCE)
        self._unpin()
        if ended is None:
            self._wire.send({"failed": "a process of the variant does not die"})
            return
        status, peak = ended.get(self._variant or 0, (None, None))
        self._variant = None
        code = None if status is None else os.waitstatus_to_exitcode(status)
        self._wire.send({"cleared": True, "code": code, **self._memory(peak)})

    def _memory(self, peak: int | None) -> dict[str, Any]:
        """Return what is known of a variant's memory."""
        exceeded = self._walls is not None and self._walls.kills() > self._kills
        return {"peak_memory_bytes": peak, "memory_exceeded": exceeded}


def become(request: dict[str, Any], descriptors: list[int], parent: int, around: Walls | None, report: int) -> NoReturn:
    """Turn this forked child into what was asked for: a variant's process, or the scorer.

    Args:
        request: the supervisor's.
        descriptors: for a variant the log, the channel, the memory for tokens and the memory for logits; for a program
            that reports its own score standard output and standard error; for the scorer its wire.
        parent: the launcher.
        around: the walls that a variant is put into.
        report: a descriptor for what goes wrong until it stands there; it is closed then.
    """
    code = 1
    try:
        code = _outcome(request, descriptors, parent, around, report)
        if request["op"] == "command":
            _finish()
    finally:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _outcome(request: dict[str, Any], descriptors: list[int], parent: int, around: Walls | None, report: int) -> int:
    """Be what was asked for, and return the exit code that an interpreter would have."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        processes.die_with_parent(parent)
        if request["op"] == "scorer":
            _run_scorer(descriptors[0])
        else:
            program = _program(request)
            os.setsid()
            _enter_sandbox(program, around, parent, report)
            _run_program(program, _standard(request["op"], descriptors), around)
    except SystemExit as exit_request:
        return _exit_code(exit_request)
    except BaseException as error:  # noqa: BLE001  (the outermost frame of a process)
        _print_traceback(error)
        return 1
    return 0


def _run_scorer(wire: int) -> None:
    _keep_descriptors({CHANNEL: wire, 2: 2})
    from autoresearch_ray.training import scorer

    scorer.serve(Wire(socket.socket(fileno=CHANNEL)))


def _program(request: dict[str, Any]) -> Program:
    library = request.get("library")
    command = tuple(request.get("command", ("train.py",)))
    scratch = Path(request["scratch"])
    folder = Path(request.get("folder", scratch))
    return Program(scratch, folder, request["environment"], command, Path(library) if library else None)


def _standard(operation: str, descriptors: list[int]) -> dict[int, int]:
    """Return which descriptor is to have which number."""
    if operation == "variant":
        log, channel, data, logits = descriptors
        return {1: log, 2: log, CHANNEL: channel, DATA: data, LOGITS: logits}
    output, errors = descriptors
    return {1: output, 2: errors}


def _enter_sandbox(program: Program, around: Walls | None, parent: int, report: int) -> None:
    """Put the walls around this process, for itself and all that it starts: the one place where that happens."""
    if around is None:
        processes.gain_no_privileges()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        return
    try:
        around.enter(program.scratch)
        processes.die_with_parent(parent)  # another identity has forgotten it
    except OSError as error:
        os.write(report, f"the sandbox cannot be entered: {error.strerror}".encode())
        os._exit(1)


def _run_program(program: Program, descriptors: dict[int, int], around: Walls | None) -> None:
    _keep_descriptors(descriptors)
    if around is not None:
        around.settle()
    os.chdir(program.folder)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    if program.library is None:
        _start(program)
    _enter_surroundings(program, program.library)
    if around is not None:
        around.hider.install()
        tensors.send_by_value()
        _cap_gpu_memory(around.plan.gpu_fraction)
    _run(program.folder / program.command[0])


def _cap_gpu_memory(fraction: float) -> None:
    """Have torch keep to a share of the GPU's memory, from the moment that it starts CUDA."""
    cuda = sys.modules.get("torch.cuda")
    if cuda is not None and fraction < 1.0:
        cuda._lazy_call(lambda: cuda.set_per_process_memory_fraction(fraction))


def _start(program: Program) -> NoReturn:
    """Become a command, found through the PATH of its own environment."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores them, and a command would inherit that
    try:
        os.execvpe(program.command[0], program.command, program.environment)
    except OSError as error:
        os.write(2, f"{program.command[0]}: cannot be started ({error.strerror})\n".encode())
        os._exit(127)


def _enter_surroundings(program: Program, library: Path) -> None:
    """Give the process what a fresh interpreter that runs the script would have."""
    os.environ.clear()
    os.environ.update(program.environment)
    tempfile.tempdir = None
    for name in [name for name in sys.modules if name.partition(".")[0] == "autoresearch_ray"]:
        del sys.modules[name]
    sys.path[0] = str(library)
    sys.argv = [str(program.folder / program.command[0]), *program.command[1:]]
    sys.stdout, sys.stderr = _open_log(1), _open_log(2)


def _finish() -> None:
    """Do what an interpreter does at its end: wait for threads, then call what was registered for the exit."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()


def _open_log(descriptor: int) -> TextIO:
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _keep_descriptors(wanted: dict[int, int]) -> None:
    """Rename descriptors (number wanted: number now) and close all others; what is not named is /dev/null below 3."""
    null = os.open(os.devnull, os.O_RDWR)
    wanted = {0: null, 1: null, 2: null, **wanted}
    beyond = max(wanted) + 1
    high = {number: fcntl.fcntl(now, fcntl.F_DUPFD_CLOEXEC, beyond) for number, now in wanted.items()}
    for number, copy in high.items():
        os.dup2(copy, number, inheritable=number < 3)
    folder = "/proc/self/fd" if processes.LINUX else "/dev/fd"
    highest = max(map(int, os.listdir(folder)))
    for descriptor in set(range(beyond)) - set(wanted):
        os.closerange(descriptor, descriptor + 1)
    os.closerange(beyond, highest + 1)


def _run(path: Path) -> None:
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=str(path), __builtins__=__builtins__)
    sys.modules["__main__"] = main
    code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    exec(code, main.__dict__)


def _exit_code(request: SystemExit) -> int:
    if request.code is None:
        return 0
    if isinstance(request.code, int):
        return request.code & 0xFF
    with contextlib.suppress(OSError, ValueError):
        print(request.code, file=sys.stderr)
    return 1


def _print_traceback(error: BaseException) -> None:
    """Print the traceback without the launcher's own frames."""
    here = error.__traceback__
    while here is not None and here.tb_frame.f_code.co_filename == __file__:
        here = here.tb_next
    if here is None:
        print("Traceback (most recent call last):", file=sys.stderr)
    traceback.print_exception(type(error), error, here)


def _import_torch(device: str) -> None:
    """Import what a training would otherwise import itself, at a cost of seconds.

    Inductor asks at its import whether there is a GPU; that would start CUDA here, and a fork does not survive that.
    """
    cuda = importlib.import_module("torch.cuda")
    asks = cuda.is_available
    cuda.is_available = lambda: device == "cuda"  # type: ignore[attr-defined]
    try:
        for name in PRELOADED[device]:
            importlib.import_module(name)
    finally:
        cuda.is_available = asks  # type: ignore[attr-defined]


def _threads() -> int:
    return len(os.listdir("/proc/self/task")) if processes.LINUX else 1


def main(arguments: list[str]) -> None:
    """Run the launcher.

    Args:
        arguments: the descriptor of the wire to the supervisor, that of the lock on the slot's folder, a key of
            `PRELOADED`, and the slot's folder, which is deleted at the end.
    """
    descriptor, lock, device, folder = arguments
    if os.fork():
        os._exit(0)  # so as to be nobody's child: Ray kills those of a worker that ends, and then nobody would clean up
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wire = Wire(socket.socket(fileno=int(descriptor)))
    for ours in (descriptor, lock):
        os.set_inheritable(int(ours), False)
    processes.adopt_orphans()
    around = None
    try:
        around, report = _build_walls(wire.receive()[0])
        if PRELOADED[device]:
            _import_torch(device)
        gc.collect()
        gc.freeze()  # so that a child's collections do not copy the pages it shares with us
        wire.send({"ready": os.getpid(), "threads": _threads(), "walls": report})
        Launcher(wire, around).serve()
    except WireClosed:
        return
    finally:
        if around is not None:
            around.close()
        shutil.rmtree(folder, ignore_errors=True)


def _build_walls(order: dict[str, Any]) -> tuple[Walls | None, dict[str, Any] | None]:
    """Make the slot's walls and try them; return them and what the supervisor must know, None without walls."""
    if order["plan"] is None:
        return None, None
    around = walls.build(walls.Plan.from_json(order["plan"]))
    found = probe.probe(around, tuple(os.environ), _keep_descriptors)
    group = None if around.lacks("group") else around.group
    counted = {"pids": group and group.pids, "time": group and group.time}
    return around, {
        "missing": around.missing,
        "found": found,
        "watched_memory": around.watched_memory,
        "counters": {name: str(path) for name, path in counted.items() if path is not None},
    }


if __name__ == "__main__":
    main(sys.argv[1:])
