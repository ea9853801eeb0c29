import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

sys.path.insert(0, str(Path(__file__).parents[1] / "lineage"))

import synthetic

from autoresearch_ray.lineage.query import Lineage


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 100 births with a champion."""
    return synthetic.make(tmp_path_factory.mktemp("runs") / "nov24", 100)


@pytest.fixture
def lineage(run: Path) -> Lineage:
    return Lineage.open(run)


@pytest.fixture
def printed() -> Callable[..., list[str]]:
    """Print a renderable without colour, as lines."""

    def render(shown: RenderableType, width: int = 80) -> list[str]:
        console = Console(width=width, color_system=None, file=io.StringIO(), legacy_windows=False)
        console.print(shown)
        return console.file.getvalue().rstrip("\n").split("\n")

    return render
