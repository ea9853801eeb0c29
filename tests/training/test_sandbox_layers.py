"""Single walls: identities, control groups, hidden packages, tensors by value."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sandbox_runs import AS_ROOT, EVERYBODY, LINUX, told

from autoresearch_ray.training.confinement import Confinement
from autoresearch_ray.training.launching import check_sandbox
from autoresearch_ray.training.sandbox import cgroups, identity
from autoresearch_ray.training.sandbox.settings import SandboxSettings

pytestmark = LINUX

FALL = """
from autoresearch_ray.training.sandbox import identity
claimed = identity.claim()
read, write = os.pipe()
pid = os.fork()
if pid == 0:
    identity.fall(claimed.uid, searching=False)
    status = Path("/proc/self/status").read_text()
    seen = [os.getresuid(), os.getgroups(), [line for line in status.splitlines() if line.startswith("Cap")],
        refusal(lambda: os.setuid(0)), refusal(lambda: open("/etc/shadow").close()),
        refusal(lambda: open("/proc/self/task/%d/comm" % os.getpid(), "w").close())]
    os.write(write, json.dumps(seen).encode()); os._exit(0)
os.close(write)
tell([claimed.uid, json.loads(open(read, "rb").read())])
"""


@AS_ROOT
def test_root_falls_for_good() -> None:
    uid, (ids, groups, capabilities, back, shadow, own) = told(FALL)
    assert ids == [uid] * 3
    assert groups == []
    assert all(line.split()[1].strip("0") == "" for line in capabilities)
    assert (back, shadow, own) == ("PermissionError", "PermissionError", "done")


def test_an_ordinary_user_has_no_other_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(OSError, match="only root"):
        identity.claim()


END = """
from autoresearch_ray.training.sandbox import identity
import time
claimed = identity.claim()
read, write = os.pipe()
pid = os.fork()
if pid == 0:
    identity.fall(claimed.uid, searching=False)
    for _ in range(5):
        if os.fork() == 0:
            os.setsid()
            os.fork()
    os.write(write, b"x")
    while True: time.sleep(9)
os.read(read, 1)
identity.end_all(claimed.uid)
os.close(write)
tell([len(open(read, "rb").read()) < 100, os.waitpid(pid, 0)[1]])
"""


@AS_ROOT
def test_all_of_an_identity_is_ended_at_once() -> None:
    assert told(END) == [True, 9]  # the pipe ended: no process has it open any more


def unified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inner: tuple[str, ...], outer: tuple[str, ...]) -> Path:
    """A system of version 2, played by folders that get their files when they are made."""
    own = tmp_path / "outer" / "own"
    own.mkdir(parents=True)
    monkeypatch.setattr(cgroups, "_own", lambda: {"": own})
    monkeypatch.setattr(cgroups, "_sweep", lambda _: None)
    really = Path.mkdir

    def mkdir(self: Path, *args: object, **named: object) -> None:
        really(self, *args, **named)  # type: ignore[arg-type]
        if self.name.startswith("autoresearch-"):
            for name in ("cpu.stat", *(inner if self.parent == own else outer)):
                (self / name).write_text("max 0\noom_kill 2\nusage_usec 1500000\n")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    return own


ALL = ("memory.max", "memory.events", "pids.max", "pids.events")


@pytest.mark.parametrize(
    ("inner", "outer", "place", "held"),
    [
        (ALL, (), "inner", ("memory", "pids")),
        ((), ALL, "outer", ("memory", "pids")),
        (("pids.max",), ALL, "outer", ("memory", "pids")),
        (("memory.max",), (), "inner", ("memory",)),
        ((), (), "inner", ()),
    ],
)
def test_version_2_has_one_group_for_all(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inner: tuple[str, ...],
    outer: tuple[str, ...],
    place: str,
    held: tuple[str, ...],
) -> None:
    own = unified(tmp_path, monkeypatch, inner, outer)
    made = cgroups.make(1 << 30, 64)
    folder = (own if place == "inner" else own.parent) / f"autoresearch-{os.getpid()}"
    assert (made.memory, made.pids) == tuple(folder if name in held else None for name in ("memory", "pids"))
    assert made.time == folder / "cpu.stat"
    assert made.folders == (folder,)
    assert cgroups.cpu_seconds(made.time) == 1.5
    if made.memory:
        assert (folder / "memory.max").read_text().startswith(str(1 << 30))


GROUP = """
from autoresearch_ray.training.sandbox import cgroups
made = cgroups.make(48 << 20, 8)
if made.memory is None or made.pids is None:
    tell(None); sys.exit()
def child(act):
    pid = os.fork()
    if pid == 0:
        made.join(); act(); os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
def forks():
    for _ in range(20): os.fork()
used = child(lambda: sum(range(3_000_000)))
big = child(lambda: bytearray(b"x") * (200 << 20))
memfd = child(lambda: [os.write(os.memfd_create("m"), bytes(1 << 20)) for _ in range(200)])
refused = child(lambda: [os.fork() for _ in range(20)])
counted = made.time is None or cgroups.cpu_seconds(made.time) > 0.01
tell([used, big, memfd, made.kills() >= 2, cgroups.refusals(made.pids) > 0, counted])
"""


@AS_ROOT
def test_the_kernel_ends_who_takes_too_much() -> None:
    """Memory that nobody maps counts too."""
    seen = told(GROUP)
    if seen is None:
        pytest.skip("no control group can be made here")
    assert seen == [0, -9, -9, True, True, True]


HIDDEN = """
from autoresearch_ray.training.sandbox import imports
import importlib.util, site
place = folder / "packages"; other = folder / "others"
for root, names in ((place, ("secret_package", "shared_name")), (other, ("shared_name", "free"))):
    root.mkdir()
    for name in names: (root / f"{name}.py").write_text(f"where = {str(root)!r}")
sys.path[:0] = [str(place), str(other)]
imports.Hider({name: str(place / f"{name}.py") for name in ("secret_package", "shared_name")}).install()
def fails():
    try: import secret_package
    except ModuleNotFoundError as error: return [str(error), error.name]
import shared_name, free, wave
tell([fails(), importlib.util.find_spec("secret_package"), shared_name.where == str(other), free.where == str(other)])
"""


@EVERYBODY
def test_a_hidden_package_is_as_if_it_were_not_installed(user: int | None) -> None:
    assert told(HIDDEN, user) == [["No module named 'secret_package'", "secret_package"], None, True, True]


TENSORS = """
from autoresearch_ray.training.sandbox import tensors, seccomp
{before}
tensors.send_by_value()
processes.gain_no_privileges()
seccomp.install(seccomp.assemble(seccomp.rules(sockets=False, metadata=True, memfd=True)))
import torch, torch.multiprocessing
from torch.utils.data import DataLoader
class Data:
    def __len__(self): return 6
    def __getitem__(self, index): return torch.full((3,), float(index)), torch.empty(0), index
batches = [(x.sum().item(), y.shape[1], i.tolist()) for x, y, i in DataLoader(Data(), batch_size=3, num_workers=2)]
tell(batches)
"""


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", "import torch.multiprocessing"])
def test_workers_send_tensors_without_sockets(before: str) -> None:
    assert told(TENSORS.format(before=before)) == [[9.0, 0, [0, 1, 2]], [36.0, 0, [3, 4, 5]]]


def test_few_open_files_break_no_other_promise() -> None:
    """The limit is lowered last: what the launcher itself holds open does not count."""
    walls = SandboxSettings(level="best_effort", open_files=64)
    promises = {promise.name: promise for promise in check_sandbox(Confinement(walls))}
    usual = {promise.name: promise for promise in check_sandbox(Confinement(replace(walls, open_files=4096)))}
    assert promises["descriptors"].held
    assert {name for name, promise in promises.items() if promise.held} >= {
        name for name, promise in usual.items() if promise.held
    }


LONELY_ROOT = """
import json
from autoresearch_ray.training.confinement import Confinement
from autoresearch_ray.training.launching import check_sandbox
from autoresearch_ray.training.sandbox.settings import SandboxSettings
found = check_sandbox(Confinement(SandboxSettings(level="best_effort")))
print(json.dumps({promise.name: [promise.held, promise.why_not] for promise in found}))
"""


def test_where_root_has_no_other_user_capabilities_are_given_up() -> None:
    """As in a container whose map holds one id: there is nobody to become, but nothing is kept either."""
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", LONELY_ROOT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.stderr.startswith("unshare:"):
        pytest.skip("this user can make no user namespace")
    promises = json.loads(done.stdout)
    assert "capabilities" not in promises["privileges"][1]
    for name in ("reading", "writing", "metadata", "signals", "kernel", "inspection"):
        assert promises[name][0], promises[name]
