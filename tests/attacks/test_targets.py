"""Reads val and holdout tokens: by path, through /proc, inherited descriptors, its own memory and that of others."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from arena import GREETED, Arena
from small_data import SEQUENCE_LENGTH

BY_PATH = """
from pathlib import Path
folder = FACTS["data"]
for name in FACTS["names"]:
    attempt(name, lambda: Path(folder, name).read_bytes()[:4])
    attempt("map " + name, lambda: __import__("numpy").memmap(Path(folder, name), mode="r")[:4].tolist())
attempt("list", lambda: os.listdir(folder))
attempt("size", lambda: os.stat(folder + "/val.bin").st_size and 1 / 0)
for pid in FACTS["pids"]:
    attempt(f"root of {pid}", lambda: Path(f"/proc/{pid}/root{folder}/val.bin").read_bytes()[:4])
    attempt(f"working folder of {pid}", lambda: os.listdir(f"/proc/{pid}/cwd"))
    attempt(f"descriptors of {pid}", lambda: os.listdir(f"/proc/{pid}/fd"))
    attempt(f"maps of {pid}", lambda: [line for line in open(f"/proc/{pid}/maps") if "val.bin" in line][0])
    for number in range(3, 12):
        attempt(f"descriptor {number} of {pid}", lambda: open(f"/proc/{pid}/fd/{number}", "rb").read(4) or 1 / 0)
"""


def names(arena: Arena) -> list[str]:
    found = sorted(os.listdir(arena.settings.data))
    assert {"train.bin", "val.bin", "holdout.bin", "check.bin"} <= set(found)
    return found


def test_by_path_and_through_proc(walled: Arena, unwalled: Arena) -> None:
    for pid in (walled.scorer, walled.launcher, os.getpid()):
        seen = walled.attack(BY_PATH, data=walled.settings.data, names=names(walled), pids=[pid])
        seen.assert_all_refused("val.bin", "map holdout.bin", f"descriptors of {pid}")
        seen.assert_trained_honestly()
    bites = unwalled.attack(BY_PATH, data=unwalled.settings.data, names=names(unwalled), pids=[unwalled.scorer])
    assert {"val.bin", "map val.bin", "list"} <= set(bites.done())
    if os.geteuid() == 0:  # others need not be allowed to look at their own processes
        assert {f"root of {unwalled.scorer}", f"descriptors of {unwalled.scorer}"} <= set(bites.done())


def test_by_inherited_descriptors(walled: Arena) -> None:
    """Standard input is nothing; the others are the log, the channel and two memories, which hold what was sent."""
    seen = walled.attack(
        """
        import stat
        def describe(fd):
            at = os.fstat(fd)
            return [fd, os.readlink(f"/proc/self/fd/{fd}"), stat.S_IFMT(at.st_mode)]
        def opened(fd):
            try: os.fstat(fd)
            except OSError: return False
            return True
        attempt("open", lambda: [describe(fd) for fd in range(4096) if opened(fd)])
        """
    )
    found = {fd: target for fd, target, _ in eval(seen.done()["open"])}
    assert set(found) == {0, 1, 2, 3, 4, 5}
    assert found[0] == "/dev/null"
    assert found[1] == found[2]
    assert found[1].startswith("pipe:")
    assert found[3].startswith("socket:")
    assert "/memfd:tokens" in found[4]
    assert "/memfd:logits" in found[5]


SEARCH = """
import re
import numpy

def search(pid, masked):
    'Look for something that is never in our own memory: neither it nor what is searched is kept unmasked.'
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            place = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
            if place and "[v" not in line:
                start, end = (int(bound, 16) for bound in place.groups())
                try:
                    memory.seek(start)
                    held = numpy.frombuffer(memory.read(end - start), numpy.uint8) ^ FACTS["mask"]
                except (OSError, OverflowError, ValueError):
                    continue
                if held.tobytes().find(masked) >= 0:
                    return line
    raise LookupError("nothing found")

for pid in FACTS["pids"]:
    attempt(f"memory of {pid}", lambda: search(pid, bytes.fromhex(FACTS["masked"])))
"""
MASK = 0x5A


def masked_row(arena: Arena, split: str) -> str:
    """Return the second half of a split's last row, masked, in hexadecimal."""
    rows = np.fromfile(Path(arena.settings.data, f"{split}.bin"), dtype=np.uint16).reshape(-1, SEQUENCE_LENGTH + 1)
    return bytes(byte ^ MASK for byte in rows[-1, 2:].tobytes()).hex()


def test_in_memory(walled: Arena) -> None:
    """The launcher, from which a variant is forked, has never held a target: nor has the variant, then."""
    for split in ("val", "holdout"):
        pids = ["self", walled.launcher, walled.scorer, os.getpid()]
        seen = walled.attack(SEARCH, masked=masked_row(walled, split), mask=MASK, pids=pids)
        seen.assert_all_refused("memory of self", f"memory of {walled.scorer}", f"memory of {walled.launcher}")
        assert "nothing found" in seen.refused()["memory of self"]
        seen.assert_trained_honestly()


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user may trace none but its own descendants on many systems")
def test_in_memory_without_walls(unwalled: Arena) -> None:
    facts = {"masked": masked_row(unwalled, "val"), "mask": MASK}
    assert unwalled.attack(SEARCH, pids=[unwalled.scorer], **facts).done()
    assert "nothing found" in unwalled.attack(SEARCH, pids=["self"], **facts).refused()["memory of self"]


def test_the_shared_memories_hold_no_target(walled: Arena) -> None:
    """All that is ever written to them is searched: inputs of rows, without their last token."""
    targets = [
        np.fromfile(Path(walled.settings.data, f"{split}.bin"), dtype=np.uint16).reshape(-1, SEQUENCE_LENGTH + 1)
        for split in ("val", "holdout")
    ]
    whole = {rows[n].tobytes().hex() for rows in targets for n in range(0, len(rows), 40)}
    source = GREETED + (
        "while 'end' not in batch(): pass\n"
        "import mmap\n"
        "logits = mmap.mmap(hello['logits_fd'], hello['logits_bytes'])\n"
        "data = mmap.mmap(hello['data_fd'], hello['data_bytes'])\n"
        f"whole = {sorted(whole)}\n"
        "answer, hits, seen = evaluate(), 0, 0\n"
        "while 'rows' in answer:\n"
        "    held = data[:1 << 18] + logits[:1 << 18]\n"
        "    hits += sum(bytes.fromhex(row) in held for row in whole)\n"
        "    seen += sum(bytes.fromhex(row)[:-2] in held for row in whole)\n"
        "    answer = ask({'op': 'logits'})\n"
        "os.write(1, b'hits=%d seen=%d\\n' % (hits, seen))\n"
    )
    log = walled.run(source).log_tail
    assert "hits=0 " in log
    assert "seen=0" not in log
