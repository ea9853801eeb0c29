"""Serves the page until it is interrupted.

Owns the socket. Does not own what is answered (app.py).
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass

import uvicorn

from autoresearch_ray.errors import UsageError
from autoresearch_ray.explore.web import app
from autoresearch_ray.explore.web.board import Board
from autoresearch_ray.explore.web.guard import is_loopback

SHUTDOWN_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Place:
    """Where the page is served."""

    host: str
    port: int
    token: str | None

    @property
    def address(self) -> str:
        """What to open in a browser."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        if self.host in ("0.0.0.0", "::"):
            name = socket.gethostname()
        return f"http://{name}:{self.port}/" + (f"?token={self.token}" if self.token else "")


def serve(board: Board, host: str, port: int, token: str | None, ready: Callable[[Place], None]) -> None:
    """Serve a run until it is interrupted.

    Args:
        board: the run.
        host: the address to bind to; one that other machines can reach needs a token.
        port: 0 takes a free one.
        token: what visitors must show; for another host than loopback one is made if None.
        ready: called with the place once the port is taken.

    Raises:
        UsageError: the port is taken, or the host cannot be bound.
    """
    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(24)
    listening = _bind(host, port)
    with listening:
        place = Place(host, listening.getsockname()[1], token)
        configured = uvicorn.Config(
            app.make(board, host, token),
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        ready(place)
        uvicorn.Server(configured).run(sockets=[listening])


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named: else asyncio leaves Nagle on
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"{host} port {port} cannot be used ({reason}): name another with --port or --host."
        ) from error
    return listening
