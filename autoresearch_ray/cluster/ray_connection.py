"""The way to Ray: starts it here or joins a cluster, lists its nodes, and says in our words what its errors mean.

Does not own what is asked of it (ray.py) or what runs there (ray_actors.py).
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
from pathlib import Path
from typing import Any

import ray
import ray.exceptions

from autoresearch_ray.errors import ClusterError

FAILURES: tuple[tuple[type[ray.exceptions.RayError], str], ...] = (
    (ray.exceptions.OutOfMemoryError, "Ray ended the worker: the node ran out of memory"),
    (ray.exceptions.NodeDiedError, "the node died"),
    (ray.exceptions.WorkerCrashedError, "the worker process died"),
    (ray.exceptions.ActorDiedError, "the actor's process died"),
    (ray.exceptions.ActorUnavailableError, "the actor cannot be reached"),
    (ray.exceptions.ObjectLostError, "its data were lost with a node"),
    (ray.exceptions.TaskCancelledError, "it was cancelled"),
    (ray.exceptions.GetTimeoutError, "it does not answer"),
)
"""What Ray's errors mean, most telling first; tests check that the table covers what tasks and actors can raise."""


def sentence(error: ray.exceptions.RayError) -> str:
    """Return one line: a known failure in our words, anything else by name and first line."""
    if words := next((words for kind, words in FAILURES if isinstance(error, kind)), None):
        return words
    cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
    return f"{type(cause).__name__}: {next(iter(str(cause).splitlines()), '')[:300]}"


_NOT_CONNECTED = (RuntimeError, ValueError, OSError, ray.exceptions.RayError)
"""What `ray.init` raises besides plain `Exception`s; OSError includes time-outs and refused connections."""


def connect(address: str | None, folder: Path | None) -> None:
    """Start or join Ray.

    Raises:
        ClusterError: nobody answers at the address, or Ray cannot start.
    """
    if address and address != "auto":
        _knock(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"address": address} if address else _local_options(folder)
    try:
        ray.init(log_to_driver=False, configure_logging=False, **options)
    except Exception as error:
        # Where a node does not come up, as on a machine that is too busy, Ray raises plain `Exception`s.
        if type(error) is not Exception and not isinstance(error, _NOT_CONNECTED):
            raise
        said = " ".join(str(error).split()).rstrip(".")[:300]
        if address:
            raise ClusterError(f"Cannot reach the Ray cluster at {address!r}: {said}.") from error
        advice = "Is this machine very busy, or out of memory or disk? Try again."
        raise ClusterError(f"Ray does not start on this machine: {said}. {advice}") from error


def _local_options(folder: Path | None) -> dict[str, Any]:
    """Return what starts Ray for this run alone, protected by a token of its own unless the user decided otherwise."""
    # Ray turns token authentication on and, left to itself, keeps one token for all runs in the home directory.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    return {"include_dashboard": False, "_temp_dir": str(folder)}


def _knock(address: str) -> None:
    """Fail in seconds, not minutes, where nobody listens (Raises ClusterError)."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit() or "://" in address:
        raise ClusterError(f"{address!r} is not a Ray address: expected `auto` or `host:port`, as in 10.0.0.5:6379.")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise ClusterError(
            f"No Ray cluster answers at {address} ({error.strerror or error}): is `ray start --head` running there?"
        ) from error


def nodes() -> list[dict[str, Any]]:
    """Return what Ray says of each node, also of those that are gone."""
    found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return found
