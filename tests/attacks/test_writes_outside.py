"""Writes outside its scratch folder: by name, through links, where successors import from, where programs start.

What is tried on the machine itself (not on folders of the test) does no harm if it succeeds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import numpy
import pytest
import torch
from arena import PREPARE, Arena

WRITES = """
import ctypes, socket, stat, tempfile
from pathlib import Path
folder = Path(FACTS["folder"])
victim = folder / "secret"

def through(link):
    link(victim, "way")
    Path("way").write_text("broken")

def through_folder():
    os.symlink(folder, "door")
    Path("door/new").write_text("broken")

def through_path_descriptor():
    with open(f"/proc/self/fd/{os.open(victim, os.O_PATH)}", "w") as file:
        file.write("broken")

def move_in():
    Path("mine").write_text("broken")
    os.rename("mine", folder / "moved")

def link_in():
    Path("mine").write_text("broken")
    os.link("mine", folder / "linked")

def unnamed():
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"broken")

attempt("overwrite", lambda: victim.write_text("broken"))
attempt("append", lambda: open(victim, "a").write("broken"))
attempt("truncate", lambda: os.truncate(victim, 0))
attempt("open to truncate", lambda: os.close(os.open(victim, os.O_RDONLY | os.O_TRUNC)))
attempt("new file", lambda: (folder / "new").write_text("broken"))
attempt("new folder", lambda: (folder / "new folder").mkdir())
attempt("pipe", lambda: os.mkfifo(folder / "pipe"))
attempt("device", lambda: os.mknod(folder / "device", 0o666 | stat.S_IFCHR, os.makedev(1, 3)))
attempt("socket", lambda: os.mknod(folder / "socket", 0o666 | stat.S_IFSOCK))
attempt("link outside", lambda: os.symlink("/etc", folder / "link"))
attempt("through a symbolic link", lambda: through(os.symlink))
attempt("through a linked folder", through_folder)
attempt("through a hard link", lambda: os.unlink("way") or through(os.link))
attempt("through a path descriptor", through_path_descriptor)
attempt("through /proc/self/root", lambda: Path(f"/proc/self/root{victim}").write_text("broken"))
attempt("move in", move_in)
attempt("link in", link_in)
attempt("unnamed file", unnamed)
attempt("move out", lambda: os.rename(victim, "stolen"))
attempt("remove", lambda: os.remove(victim))
attempt("remove the folder", lambda: folder.rmdir())
"""


def test_files_of_the_user_stay_as_they_are(walled: Arena, unwalled: Arena, outside: Path) -> None:
    before = listing(outside)
    seen = walled.attack(WRITES, folder=outside)
    assert listing(outside) == before
    assert (outside / "secret").read_text() == "sk-outside"
    seen.assert_trained_honestly()
    bites = unwalled.attack(WRITES, folder=outside)
    assert {"overwrite", "new file", "through a symbolic link", "move in", "move out"} <= set(bites.done())
    seen.assert_all_refused(*bites.outcomes)


def listing(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return what a variant could change about the files below a folder, the folder included."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        at = path.lstat()
        found[str(path)] = (at.st_mode, at.st_uid, at.st_gid, at.st_size, at.st_nlink, at.st_mtime_ns, at.st_ctime_ns)
    return found


SUCCESSORS = """
from pathlib import Path
for folder in FACTS["folders"]:
    attempt(folder, lambda: os.close(os.open(folder + "/" + FACTS["name"], os.O_WRONLY | os.O_CREAT)))
for file in FACTS["files"]:
    attempt(file, lambda: os.close(os.open(file, os.O_RDWR)))
"""


def test_what_successors_import(walled: Arena, outside: Path) -> None:
    """Where interpreters look for code: site-packages, the standard library, our package, prepare.py, and so on."""
    name = f"planted-{outside.name}.pth"
    paths = sysconfig.get_paths()
    folders = [
        paths["purelib"],
        paths["stdlib"],
        Path.home(),
        Path.home() / ".config",
        Path("/usr/lib/python3"),
        "/etc",
    ]
    folders += [PREPARE.parent, PREPARE.parents[1], PREPARE.parents[1] / "autoresearch_ray", walled.slot_folder]
    folders += [
        walled.slot_folder / "library",
        Path(tempfile.gettempdir()),
        "/dev",
        Path(sys.executable).parent,
    ]
    folders += [Path(torch.__file__).parent, Path(sys.base_prefix), walled.settings.data]
    files = [
        torch.__file__,
        numpy.__file__,
        os.__file__,
        PREPARE,
        sys.executable,
        walled.slot_folder / "library/prepare.py",
    ]
    seen = walled.attack(SUCCESSORS, folders=folders, files=files, name=name)
    left = [path for path in (Path(folder, name) for folder in folders) if path.exists()]
    for path in left:
        path.unlink()
    assert not left
    seen.assert_all_refused(*map(str, (*folders, *files)))
    seen.assert_trained_honestly()


MACHINE = """
attempt("be killed last", lambda: os.write(os.open("/proc/self/oom_score_adj", os.O_WRONLY), b"-1000"))
attempt("become root", lambda: os.write(os.open("/proc/self/uid_map", os.O_WRONLY), b"0 0 1"))
for path in FACTS["paths"]:
    attempt(path, lambda: os.close(os.open(path, os.O_WRONLY)))
for path in FACTS["made"]:
    attempt(path, lambda: os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)))
"""


def test_what_the_machine_obeys(walled: Arena, outside: Path) -> None:
    """The kernel's knobs, devices, and the files that init, cron, sudo and the dynamic linker read."""
    cgroups = Path("/sys/fs/cgroup")
    paths = ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/overcommit_memory"]
    paths += ["/sys/kernel/mm/transparent_hugepage/enabled", "/proc/sysrq-trigger"]
    paths += [cgroups / name / "cgroup.procs" for name in ("", "memory", "pids", "unified", "systemd")]
    paths += [
        "/dev/kmsg",
        "/dev/mem",
        "/dev/tty",
        "/dev/ptmx",
        "/dev/fuse",
        "/dev/kvm",
        "/dev/vda",
    ]
    paths += ["/dev/loop-control", "/dev/uinput", "/etc/passwd", "/etc/shadow", "/etc/sudoers", "/etc/crontab"]
    name = outside.name
    folders = (
        "/etc",
        "/etc/cron.d",
        "/etc/profile.d",
        "/run",
        "/dev/mqueue",
        "/var/spool/cron/crontabs",
        "/usr/local/bin",
    )
    made = [f"{folder}/{name}" for folder in folders]
    seen = walled.attack(MACHINE, paths=paths, made=made)
    left = [path for path in made if os.path.exists(path)]
    for path in left:
        os.unlink(path)
    assert not left
    seen.assert_all_refused("be killed last", "become root", *map(str, paths), *made)
    seen.assert_trained_honestly()


CACHES = """
from pathlib import Path
for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "HOME", "TMPDIR"):
    folder = Path(os.environ[name])
    folder.mkdir(parents=True, exist_ok=True)
    attempt(name, lambda: (folder / "planted").write_text("evil") and str(folder))
for path in FACTS.get("planted", ()):
    attempt(path, lambda: Path(path).read_text())
"""


def test_a_compile_cache_ends_with_its_experiment(walled: Arena) -> None:
    """It may write to caches of its own, and a successor finds nothing of it."""
    first = walled.attack(CACHES)
    assert not first.refused()
    planted = [os.path.join(value.strip("'"), "planted") for value in first.done().values()]
    assert not any(os.path.exists(path) for path in planted)
    second = walled.attack(CACHES, planted=planted)
    own = {"TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "HOME", "TMPDIR"}
    for path in set(planted) - {os.path.join(value.strip("'"), "planted") for value in second.done().values()}:
        assert path in second.refused()
    assert own <= set(second.done())


@pytest.mark.parametrize("hooks", ["hooks", "."])
def test_hooks_in_the_projection(walled: Arena, outside: Path, hooks: str) -> None:
    """The lineage's git repository runs no program that a variant has put there: it cannot put one there."""
    git = outside / "variants.git"
    subprocess.run(["git", "init", "-q", "--bare", git], check=True)
    for folder, _, _ in os.walk(git):
        os.chmod(folder, 0o777)
    before = listing(git)
    seen = walled.attack(
        """
        from pathlib import Path
        for name in ("pre-receive", "post-update", "reference-transaction", "config", "description"):
            attempt(name, lambda: Path(FACTS["hooks"], name).write_text("#!/bin/sh\\nexit 1\\n"))
        """,
        hooks=git / hooks,
    )
    seen.assert_all_refused("reference-transaction", "config")
    seen.assert_trained_honestly()
    assert listing(git) == before
