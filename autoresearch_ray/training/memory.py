"""Memory that a trusted process shares with a variant's process, through a descriptor.

The trusted side never maps it: it writes and reads copies, so that nothing it has read can change under its hands and
no shrinking of the file can kill it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile

TOKENS_A_BATCH = {"cpu": 2048, "cuda": 65_536}
"""Tokens whose logits are asked for at a time when a model is scored, by device; at least one row."""
LEAST_LOGITS_BYTES = 1 << 26
GRAIN = 1 << 21
"""Memory of a GPU that is shared comes in multiples of so many bytes."""
MOST_LOGITS = 1 << 29
"""Logits of one batch on a GPU, for large vocabularies."""


def tokens_a_batch(device: str, vocab_size: int) -> int:
    """Return how many tokens' logits are asked for at a time."""
    return min(TOKENS_A_BATCH[device], MOST_LOGITS // vocab_size)


def logits_bytes(device: str, sequence_length: int, vocab_size: int) -> int:
    """Return the bytes that the logits of one batch take at most: in float32, on a GPU in a type of two bytes.

    There is room for one row in float32 in any case.
    """
    row = sequence_length * vocab_size
    rows = max(1, tokens_a_batch(device, vocab_size) // sequence_length)
    least = max(LEAST_LOGITS_BYTES, 4 * row, (2 if device == "cuda" else 4) * rows * row)
    return -(-least // GRAIN) * GRAIN


def allocate(name: str, size: int) -> int:
    """Return the descriptor of `size` bytes of zeroed memory, which cannot be resized where the system allows that.

    Where there is no memfd it is a file without a name. Pages are taken only when they are written.
    """
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
        os.ftruncate(descriptor, size)
        return descriptor
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor


def open_apart(descriptor: int) -> int:
    """Return a new descriptor of the same memory that shares no state with this one, for the untrusted side.

    Copies of a descriptor share the flags of one open file: with O_APPEND, set at the other side, what is written here
    would go to the end. Where the system has no names for open files it is a copy all the same.
    """
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return os.dup(descriptor)


def write(descriptor: int, content: memoryview, offset: int) -> None:
    """Copy `content` (contiguous) into the memory at `offset` bytes."""
    content = content.cast("B")
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written


def read(descriptor: int, target: memoryview, offset: int) -> None:
    """Copy the memory at `offset` bytes into `target` (contiguous), all of it.

    Raises:
        EOFError: the memory ends before; the other side has cut it.
    """
    target = target.cast("B")
    while target:
        copied = os.preadv(descriptor, [target], offset)
        if not copied:
            raise EOFError("the shared memory was cut")
        target, offset = target[copied:], offset + copied
