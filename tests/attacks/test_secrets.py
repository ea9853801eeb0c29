"""Reads API keys, the home directory, Ray's token, another run: from the environment, files, memory and /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from arena import KEY_REVERSED, Arena

if TYPE_CHECKING:
    from conftest import Neighbour

FILES = {
    "home/.ssh/id_ed25519": "-----BEGIN OPENSSH PRIVATE KEY-----",
    "home/.ray/auth_token": "a-token-of-ray",
    "home/.netrc": "machine api.openai.com password sk-outside",
    "home/.cache/huggingface/token": "hf_outside",
    "runs/nov24/config.yaml": "population_size: 8",
    "runs/nov24/lineage/variants/part-00000.parquet": "PAR1",
    "runs/nov24/variants.git/HEAD": "ref: refs/heads/champion",
    "slot/scratch-other/train.py": "print('another experiment')",
}


@pytest.fixture
def user(outside: Path) -> Iterator[Path]:
    """A user's files, readable for everybody: modes hide nothing here."""
    for name, text in FILES.items():
        path = outside / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for folder, _, names in os.walk(outside):
        os.chmod(folder, 0o777)
        for name in names:
            os.chmod(os.path.join(folder, name), 0o666)
    return outside


READ_FILES = """
import ctypes, mmap
from pathlib import Path
libc = ctypes.CDLL(None, use_errno=True)

def openat2(path):
    how = (ctypes.c_uint64 * 3)(os.O_RDONLY, 0, 0)
    fd = libc.syscall(437, -100, path.encode(), how, 24)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "openat2")
    return os.read(fd, 100)

def link(make):
    make(target, "way")
    try:
        return Path("way").read_text()
    finally:
        os.unlink("way")

def through_path_descriptor():
    fd = os.open(target, os.O_PATH)
    return open(f"/proc/self/fd/{fd}").read()

for target in FACTS["files"]:
    attempt("read " + target, lambda: Path(target).read_text())
target = FACTS["files"][0]
attempt("list", lambda: os.listdir(os.path.dirname(target)))
attempt("openat2", lambda: openat2(target))
attempt("execute a reader", lambda: os.popen("cat " + target).read() or 1 / 0)
attempt("symbolic link", lambda: link(os.symlink))
attempt("hard link", lambda: link(os.link))
attempt("O_PATH and /proc/self/fd", through_path_descriptor)
attempt("/proc/self/root", lambda: Path("/proc/self/root" + target).read_text())
attempt("climb", lambda: Path("../" * 40 + target[1:]).read_text())
attempt("copy_file_range", lambda: os.copy_file_range(os.open(target, 0), os.open("copy", os.O_RDWR | os.O_CREAT), 5))
"""


def test_files_of_the_user(walled: Arena, unwalled: Arena, user: Path) -> None:
    files = [user / name for name in FILES]
    bites = unwalled.attack(READ_FILES, files=files)
    assert not bites.refused()
    seen = walled.attack(READ_FILES, files=files)
    seen.assert_all_refused(*bites.outcomes)
    seen.assert_trained_honestly()
    for told in FILES.values():
        assert told not in seen.result.log_tail


SYSTEM_FILES = """
from pathlib import Path
for path in FACTS["paths"]:
    attempt(path, lambda: len(os.listdir(path)) if os.path.isdir(path) else len(open(path, "rb").read(1)))
"""


def test_files_of_this_machine(walled: Arena) -> None:
    home = Path.home()
    paths = ["/etc/shadow", "/etc/sudoers", "/root", home, home / ".cache", home / ".ray", home / ".ssh", "/tmp"]
    paths += [
        "/var/log",
        "/dev/mem",
        "/dev/kmsg",
        "/dev/vda",
        "/dev/sda",
        "/proc/kcore",
        "/proc/kmsg",
        "/proc/kallsyms",
    ]
    paths += ["/sys/kernel", "/run", "/var/run/docker.sock", "/proc/1/environ", "/"]
    seen = walled.attack(SYSTEM_FILES, paths=paths)
    seen.assert_all_refused(*map(str, paths))
    seen.assert_trained_honestly()


OWN_KEYS = """
import re
needle = bytes(reversed(FACTS["reversed"].encode()))

def search_memory():
    found = []
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            place = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
            if place and "[v" not in line:
                start, end = (int(bound, 16) for bound in place.groups())
                memory.seek(start)
                try:
                    held = memory.read(end - start)
                except OSError:
                    continue
                at = held.find(needle)
                while at >= 0:
                    if start + at != id(needle) + bytes.__basicsize__ - 1:
                        found.append(hex(start + at))
                    at = held.find(needle, at + 1)
    return found[0]

attempt("environment", lambda: [name for name, value in os.environ.items() if value.encode() == needle][0])
attempt("initial environment", lambda: open("/proc/self/environ", "rb").read().index(needle))
attempt("own memory", search_memory)
"""


def test_keys_in_our_environment(walled: Arena, unwalled: Arena) -> None:
    """They reach neither the environment nor the memory that a variant inherits from the launcher."""
    planted = OWN_KEYS.replace("needle =", "os.environ['KEY'] = FACTS['reversed'][::-1]\nneedle =")
    assert {"environment", "own memory"} <= set(unwalled.attack(planted, reversed=KEY_REVERSED.decode()).done())
    seen = walled.attack(OWN_KEYS, reversed=KEY_REVERSED.decode())
    seen.assert_all_refused("environment", "initial environment", "own memory")
    seen.assert_trained_honestly()


OTHERS_KEYS = """
for pid in FACTS["pids"]:
    for name in ("environ", "cmdline", "maps", "mem", "stack", "auxv", "smaps", "syscall", "personality", "map_files"):
        attempt(f"{name} of {pid}", lambda: os.listdir(f"/proc/{pid}/{name}") if name == "map_files"
                else open(f"/proc/{pid}/{name}", "rb").read(1) or 1 / 0)
    for name in ("cwd", "root", "exe"):
        attempt(f"{name} of {pid}", lambda: os.stat(f"/proc/{pid}/{name}/."))
    attempt(f"descriptors of {pid}", lambda: os.readlink(f"/proc/{pid}/fd/0"))
"""


def test_keys_of_other_processes(walled: Arena, unwalled: Arena, neighbour: Neighbour) -> None:
    assert {f"environ of {neighbour.pid}", f"descriptors of {neighbour.pid}"} <= set(
        unwalled.attack(OTHERS_KEYS, pids=[neighbour.pid]).done()
    )
    for pid in (neighbour.pid, os.getpid(), walled.launcher, walled.scorer, 1):
        seen = walled.attack(OTHERS_KEYS, pids=[pid])
        seen.assert_all_refused(f"environ of {pid}", f"cmdline of {pid}", f"descriptors of {pid}")
        seen.assert_trained_honestly()
