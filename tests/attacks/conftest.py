"""Warm supervisors for attacks: one behind the walls, one without, and an impatient one behind them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from arena import Arena, opened
from metric import make_text, scored_with

from autoresearch_ray.variant import Result, Status


@pytest.fixture(scope="session")
def ground() -> Iterator[Path]:
    """A folder that every user of this machine may enter, unlike pytest's own: walls must do what modes do not."""
    folder = Path(tempfile.mkdtemp(prefix="attacked-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def outside(ground: Path) -> Iterator[Path]:
    """An empty folder outside the sandbox that anybody may write to, with a file that anybody may read and write."""
    folder = Path(tempfile.mkdtemp(dir=ground))
    folder.chmod(0o777)
    secret = folder / "secret"
    secret.write_text("sk-outside")
    secret.chmod(0o666)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def walled(ground: Path) -> Iterator[Arena]:
    """Behind the walls, and patient."""
    with opened(ground / "walled", "required") as made:
        yield made


@pytest.fixture(scope="session")
def unwalled(ground: Path) -> Iterator[Arena]:
    """Without walls: shows that an attack works where nothing stops it."""
    with opened(ground / "unwalled", "off") as made:
        yield made


@pytest.fixture(scope="session")
def strict(ground: Path) -> Iterator[Arena]:
    """Behind the walls, and impatient, for attacks that wait for ever anyway."""
    limits = {"startup_seconds": 4.0, "scoring_seconds": 0.5, "grace_seconds": 0.2}
    with opened(ground / "strict", "required", longest_training_seconds=3.0, exit_seconds=0.2, **limits) as made:
        yield made


@pytest.fixture(scope="session")
def measured(ground: Path) -> Iterator[Arena]:
    """Behind the walls, with text on which looking ahead would pay: for attacks on the metric."""
    with opened(ground / "measured", "required", data=make_text(ground / "measured" / "data")) as made:
        yield made


@pytest.fixture(scope="session")
def honest(measured: Arena) -> Result:
    """What the honest model gets there."""
    result = measured.run(scored_with("Honest()"))
    assert (result.status, result.reason) == (Status.COMPLETED, "")
    return result
