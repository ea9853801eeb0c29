"""Fills the disk: with files, files without names, names, folders, links, attributes, output."""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest
from arena import SHARE, Arena, quick_and_slow, watched

from autoresearch_ray.variant import Status

IN_SHARED_FOLDERS = """
for folder in ("/dev/shm", os.environ["TMPDIR"], "."):
    def fill():
        with open(folder + "/big", "wb") as file:
            for _ in range(2000):
                file.write(b"x" * (1 << 20))
                file.flush()
    attempt(folder, fill)
    attempt("size in " + folder, lambda: os.stat(folder + "/big").st_size <= FACTS["cap"] or 1 / 0)
    try: os.unlink(folder + "/big")
    except OSError: pass
"""


def test_disk(small: Arena) -> None:
    seen = small.attack(IN_SHARED_FOLDERS, cap=SHARE.scratch_bytes)
    assert {"/dev/shm", "."} <= set(seen.refused())
    assert "size in ." in seen.done()
    seen.assert_trained_honestly()


FILLS = {
    "files without names": """
    held = []
    def fill():
        for number in range(100):
            held.append(open(f"f{number}", "wb", 0))
            os.unlink(f"f{number}")
            held[-1].write(b"x" * (1 << 20))
    attempt("fill", fill)
    attempt("bounded", lambda: len(held) <= 65 or 1 / 0)
    del held
    """,
    "many files": """
    made = []
    def fill():
        for number in range(20000):
            open(f"f{number}", "w").close()
            made.append(number)
    attempt("fill", fill)
    attempt("bounded", lambda: len(made) <= 2000 or 1 / 0)
    for number in made: os.unlink(f"f{number}")
    """,
    "many folders": """
    made = []
    def fill():
        for number in range(20000):
            os.mkdir(f"d{number}")
            made.append(number)
    attempt("fill", fill)
    attempt("bounded", lambda: len(made) <= 2000 or 1 / 0)
    for number in made: os.rmdir(f"d{number}")
    """,
    "many links": """
    made = []
    open("one", "w").close()
    def fill():
        for number in range(20000):
            os.link("one", f"l{number}")
            made.append(number)
    attempt("fill", fill)
    attempt("bounded", lambda: len(made) <= 20000 or 1 / 0)
    for number in made: os.unlink(f"l{number}")
    if len(made) == 20000: attempt("fill", lambda: 1 / 0)  # names cost no space where links do not
    """,
    "attributes": """
    made = []
    def fill():
        for number in range(20000):
            open(f"a{number % 100}", "w").close()
            os.setxattr(f"a{number % 100}", f"user.{number}", b"x" * 4000)
            made.append(number)
    attempt("fill", fill)
    attempt("bounded", lambda: len(made) * 4000 <= FACTS["cap"] or 1 / 0)
    for number in range(100):
        if os.path.exists(f"a{number}"): os.unlink(f"a{number}")
    """,
    "allocated, not written": """
    attempt("fill", lambda: os.posix_fallocate(os.open("big", os.O_RDWR | os.O_CREAT), 0, 10 * FACTS["cap"]))
    os.unlink("big")
    attempt("bounded", lambda: 1)
    """,
}


@pytest.mark.parametrize("name", FILLS)
def test_disk_in_other_ways(small: Arena, name: str) -> None:
    before = shutil.disk_usage(tempfile.gettempdir()).free
    seen = small.attack(FILLS[name], cap=SHARE.scratch_bytes)
    assert set(seen.refused()) == {"fill"}, seen.outcomes
    seen.assert_trained_honestly()
    assert before - shutil.disk_usage(tempfile.gettempdir()).free < 4 * SHARE.scratch_bytes


def test_what_lay_in_shared_folders_is_gone(small: Arena) -> None:
    """Also in /dev/shm, which outlives processes elsewhere."""
    name = f"planted-{os.getpid()}"
    plant = "attempt('plant', lambda: open('/dev/shm/' + FACTS['name'], 'w').write('evil'))"
    small.attack(plant, name=name)
    assert not os.path.exists(f"/dev/shm/{name}")
    found = small.attack("attempt('found', lambda: open('/dev/shm/' + FACTS['name']).read())", name=name)
    found.assert_all_refused("found")


PRINT = """
import os
while True:
    os.write(1, b"x" * 65536)
"""
PRINT_LINES = """
import os
while True:
    os.write(2, b"\\n" * 65536)
"""
PRINT_FROM_MANY = """
import os
for _ in range(4):
    os.fork()
while True:
    os.write(2, b"x" * 65536)
"""


PRINTS = {"one line": PRINT, "empty lines": PRINT_LINES, "many": PRINT_FROM_MANY}


@pytest.mark.parametrize("name", quick_and_slow(PRINTS, "one line"))
def test_floods_of_output(small: Arena, name: str) -> None:
    seen = watched(small, PRINTS[name])
    assert seen.result.status in (Status.CRASHED, Status.TIMED_OUT)
    assert len(seen.result.log_tail.encode()) <= 8192
    assert seen.disk < 4 * SHARE.scratch_bytes
