"""Fixtures of the seed model's tests: a fresh prepare.py with a cache folder of its own, and a small corpus."""

from __future__ import annotations

import random
from pathlib import Path
from types import ModuleType

import pytest
from fresh_module import load


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name in ("CHANNEL", "DATA", "SEED", "DEVICE", "TRAIN_SECONDS"):
        monkeypatch.delenv(f"AUTORESEARCH_{name}", raising=False)
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "cache"))
    return load()


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder of 40 documents of words, with accents and line ends, from 1 to 400 words long."""
    folder = tmp_path / "texts"
    folder.mkdir()
    rng = random.Random(0)
    words = ["seed", "tree", "naïve", "ünïcode", "42", "x = 1;", "\n", "score", "parent", "\tdef"]
    for number in range(40):
        text = f"document {number} " + " ".join(rng.choices(words, k=10 * (number + 1)))
        (folder / f"{number:02d}.txt").write_text(text, encoding="utf-8", newline="")
    return folder
