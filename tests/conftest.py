"""Fixtures that several rooms share: a small prepared corpus, and the command line in this process."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from autoresearch_ray.cli import app

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Outcome:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Run `autoresearch-ray ARGUMENTS` in this process."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["autoresearch-ray", *map(str, arguments)])
        code: object = 0
        try:
            app.main()
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        assert isinstance(code, int)
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of text that is quickly learned: 60 documents of words in random order."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = random.Random(1)
    words = ["tree", "island", "parent", "child", "score", "lower", "is", "better", "than", "the", "seed"]
    for number in range(60):
        (folder / f"{number:03d}.txt").write_text(" ".join(rng.choices(words, k=2000)))
    return folder


@pytest.fixture
def quick(tmp_path: Path, corpus: Path) -> Path:
    """A configuration for seconds: the real seed model and program on that corpus, runs in a folder of the test's."""
    path = tmp_path / "quick.yaml"
    values = {
        "data": {
            "corpus": str(corpus),
            "tokenizer": "byte",
            "sequence_length": 64,
            "val_tokens": 4096,
            "holdout_tokens": 4096,
        },
        "storage": str(tmp_path / "runs"),
        "program": str(ROOT / "program.md"),
        "seed_model": str(ROOT / "seed_model"),
        "train_seconds": 1,
        "startup_seconds": 60,
        "scoring_seconds": 60,
        "max_experiments": 6,
    }
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or fills the user's cache."""
    os.environ["AUTORESEARCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))
