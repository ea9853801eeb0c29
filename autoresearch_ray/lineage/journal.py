"""An append-only file of framed records: magic, length, CRC-32, payload. One fsync makes everything before it durable.

Owns framing and repair. Does not own what a record says, nor when the file is rotated (store.py).
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from autoresearch_ray.lineage import files

MAGIC = b"\x89arJ"
"""Starts each frame. Its first byte is not ASCII and payloads are, so that it never occurs inside one."""

_HEADER = struct.Struct("<4sII")  # magic, payload length in bytes, CRC-32 of the length and the payload
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Damage:
    """A stretch of bytes that is no record although records follow it: not a torn tail but corruption."""

    offset: int
    length: int

    def sentence(self, path: Path) -> str:
        """Return what to tell the user."""
        return (
            f"{path} is damaged at byte {self.offset} ({self.length} bytes): the records around it are used, those in "
            "it are lost."
        )


@dataclass(frozen=True, slots=True)
class Scan:
    """What a journal's bytes hold."""

    records: tuple[bytes, ...]
    end: int
    """Offset after the last whole record; what lies behind it is a record cut short by a kill."""
    damage: tuple[Damage, ...]


def frame(payload: bytes) -> bytes:
    """Return the payload as a record.

    Raises:
        ValueError: the payload is not ASCII.
    """
    if not payload.isascii():
        raise ValueError("a journal record must be ASCII")
    length = _LENGTH.pack(len(payload))
    return _HEADER.pack(MAGIC, len(payload), zlib.crc32(payload, zlib.crc32(length))) + payload


def scan(data: bytes) -> Scan:
    """Find every whole record in a journal's bytes, also those behind damaged ones."""
    records: list[bytes] = []
    damage: list[Damage] = []
    position = end = 0
    while (position := data.find(MAGIC, position)) >= 0:
        payload = _payload(data, position)
        if payload is None:
            position += 1
            continue
        if position > end:
            damage.append(Damage(end, position - end))
        records.append(payload)
        position = end = position + _HEADER.size + len(payload)
    return Scan(tuple(records), end, tuple(damage))


def _payload(data: bytes, position: int) -> bytes | None:
    """Return the payload of the record that starts at `position`, or None if it is cut or corrupt."""
    if position + _HEADER.size > len(data):
        return None
    _, length, expected = _HEADER.unpack_from(data, position)
    start = position + _HEADER.size
    if start + length > len(data):
        return None
    payload = data[start : start + length]
    return payload if zlib.crc32(payload, zlib.crc32(_LENGTH.pack(length))) == expected else None


class Journal:
    """The writing end of one journal file; one writer at a time."""

    def __init__(self, path: Path, file: BinaryIO, size: int, holes: tuple[Damage, ...] = ()) -> None:
        self.path = path
        self.durable = True
        """False: appended records outlive the process but perhaps not the machine, as simulations may do with."""
        self.size = size
        """Bytes up to the end of the last whole record."""
        self.holes = holes
        """Corruption found on opening."""
        self._file = file

    @classmethod
    def create(cls, path: Path, records: Iterable[bytes] = ()) -> Journal:
        """Make a durable journal that holds `records`; a leftover of the same name is replaced."""
        data = b"".join(map(frame, records))
        files.write_atomically(path, data)
        return cls(path, path.open("r+b", buffering=0), len(data))

    @classmethod
    def open(cls, path: Path) -> tuple[Journal, tuple[bytes, ...]]:
        """Open a journal for appending, first cutting off a record that a kill left unfinished.

        Returns:
            The journal and the payloads of its records.
        """
        found = scan(path.read_bytes())
        journal = cls(path, path.open("r+b", buffering=0), found.end, found.damage)
        journal._cut()
        return journal, found.records

    def append(self, payloads: Iterable[bytes]) -> None:
        """Append records and make them durable with one fsync; on any error none of them stays.

        Raises:
            OSError: the disk is full or failing; the journal is as it was before.
        """
        data = memoryview(b"".join(map(frame, payloads)))
        self._file.seek(self.size)
        try:
            written = 0
            while written < len(data):
                written += self._file.write(data[written:]) or 0
            if self.durable:
                os.fsync(self._file.fileno())
        except OSError:
            self._cut()
            raise
        self.size += len(data)

    def close(self) -> None:
        """Close the file; everything appended is durable already."""
        self._file.close()

    def _cut(self) -> None:
        self._file.truncate(self.size)
        os.fsync(self._file.fileno())
