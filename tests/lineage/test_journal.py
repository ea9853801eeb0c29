import errno
import os
from pathlib import Path

import pytest

from autoresearch_ray.lineage import journal
from autoresearch_ray.lineage.journal import Damage, Journal, scan

PAYLOADS = [b"", b"[1]", b"x" * 300, b'{"source":"a\\nb"}']


def write(path: Path, payloads: list[bytes]) -> bytes:
    opened = Journal.create(path)
    for payload in payloads:
        opened.append([payload])
    opened.close()
    return path.read_bytes()


def test_cut_at_every_byte_it_opens_and_keeps_every_whole_record(tmp_path: Path) -> None:
    data = write(tmp_path / "j", PAYLOADS)
    ends = [0]
    for payload in PAYLOADS:
        ends.append(ends[-1] + len(journal.frame(payload)))
    for cut in range(len(data) + 1):
        path = tmp_path / "cut"
        path.write_bytes(data[:cut])
        opened, records = Journal.open(path)
        whole = sum(end <= cut for end in ends) - 1
        assert list(records) == PAYLOADS[:whole], cut
        assert opened.holes == ()
        opened.append([b"after"])
        opened.close()
        assert scan(path.read_bytes()).records == (*PAYLOADS[:whole], b"after"), cut


@pytest.mark.parametrize("tail", [b"\0" * 64, b"garbage", journal.MAGIC, journal.frame(b"later")[:-1]])
def test_what_a_power_cut_leaves_behind_the_last_record_is_dropped(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "j"
    data = write(path, PAYLOADS)
    path.write_bytes(data + tail)
    opened, records = Journal.open(path)
    assert list(records) == PAYLOADS
    assert opened.holes == ()
    assert path.stat().st_size == len(data)


def test_corruption_before_other_records_is_reported_and_the_rest_is_kept(tmp_path: Path) -> None:
    data = write(tmp_path / "j", PAYLOADS)
    start = len(journal.frame(PAYLOADS[0])) + len(journal.frame(PAYLOADS[1]))
    length = len(journal.frame(PAYLOADS[2]))
    for place in range(start, start + length):
        broken = data[:place] + bytes([data[place] ^ 0x5A]) + data[place + 1 :]
        found = scan(broken)
        assert list(found.records) == [*PAYLOADS[:2], PAYLOADS[3]], place
        assert found.damage == (Damage(start, length),), place


def test_a_damaged_journal_names_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "j"
    data = write(path, PAYLOADS)
    path.write_bytes(b"?" + data[1:])
    opened, _ = Journal.open(path)
    assert "damaged at byte 0 (12 bytes)" in opened.holes[0].sentence(path)


def test_many_records_take_one_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Journal.create(tmp_path / "j")
    calls: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append(descriptor), real(descriptor))[1])
    opened.append([b"%d" % number for number in range(100)])
    assert len(calls) == 1
    assert len(scan((tmp_path / "j").read_bytes()).records) == 100


def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "j"
    opened = Journal.create(path)
    opened.append([b"kept"])
    real = os.fsync

    def full(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", real)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        opened.append([b"lost"])
    assert scan(path.read_bytes()).records == (b"kept",)
    opened.append([b"later"])
    assert scan(path.read_bytes()).records == (b"kept", b"later")


def test_a_payload_must_not_be_able_to_look_like_a_frame() -> None:
    with pytest.raises(ValueError, match="ASCII"):
        journal.frame(journal.MAGIC)
