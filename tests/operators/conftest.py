"""The server that tests of language models ask, in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator

import llm_server
import pytest


@pytest.fixture(scope="session")
def started() -> Iterator[llm_server.Server]:
    """A server without a key, for all tests of this folder."""
    with llm_server.running() as server:
        yield server


@pytest.fixture
def server(started: llm_server.Server) -> llm_server.Server:
    """That server with nothing counted and nothing planted."""
    started.reset()
    return started
