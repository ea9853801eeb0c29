import os

import pytest


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of what is called when, and of kills of a process, need no real fsync; drivers in other processes do it."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
