"""The sockets between supervisor, launcher and scorer: JSON lines and descriptors among trusted processes.

Does not own the channel to the untrusted side (protocol.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

MOST_DESCRIPTORS = 16


class WireClosed(Exception):
    """The process at the other end is gone."""


class WireTimeout(Exception):
    """The process at the other end did not answer in time."""


class Wire:
    """One end of a socketpair between two trusted processes, which speak one message at a time in each direction."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._buffer = b""
        self._descriptors: list[int] = []

    def fileno(self) -> int:
        """Return the descriptor, for selectors."""
        return self._socket.fileno()

    def send(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send one message, and copies of descriptors with it (Raises WireClosed)."""
        line = json.dumps([message, len(descriptors)]).encode() + b"\n"
        try:
            sent = socket.send_fds(self._socket, [line], list(descriptors)) if descriptors else 0
            self._socket.sendall(line[sent:])
        except (BrokenPipeError, ConnectionResetError) as error:
            raise WireClosed from error

    def receive(self, timeout: float | None = None) -> tuple[dict[str, Any], list[int]]:
        """Return the next message and the descriptors that came with it, which the caller owns.

        Args:
            timeout: seconds to wait at most for each part of it; None waits for ever, 0.0 does not wait.

        Raises:
            WireClosed: the other end is closed.
            WireTimeout: nothing came in time.
        """
        while b"\n" not in self._buffer:
            self._read(timeout)
        line, _, self._buffer = self._buffer.partition(b"\n")
        message, count = json.loads(line)
        # Those of a later message may have been read already, together with this one.
        descriptors, self._descriptors = self._descriptors[:count], self._descriptors[count:]
        return message, descriptors

    def finish(self, timeout: float) -> bool:
        """Say that nothing more will be sent, and wait for the other end to close; False if it does not in time."""
        deadline = time.monotonic() + timeout
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        try:
            while True:
                self._read(max(0.0, deadline - time.monotonic()))
        except WireClosed:
            return True
        except WireTimeout:
            return False

    def close(self) -> None:
        """Close this end; twice does no harm."""
        self._socket.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []

    def _read(self, timeout: float | None) -> None:
        self._socket.settimeout(timeout)
        try:
            received, descriptors, _, _ = socket.recv_fds(self._socket, 65_536, MOST_DESCRIPTORS)
        except (BlockingIOError, TimeoutError):
            raise WireTimeout from None
        except ConnectionResetError as error:
            raise WireClosed from error
        finally:
            self._socket.settimeout(None)
        self._descriptors += descriptors
        if not received:
            raise WireClosed
        self._buffer += received
