"""The whole suite once more, as a user without any privilege: the walls are then made of user namespaces."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoresearch_ray.training import processes

ROOT = Path(__file__).parents[2]
UID = 60_990
"""Nobody's: neither an account nor one of the identities that slots claim."""


@pytest.fixture
def home() -> Iterator[Path]:
    """A home and a folder for temporary files of its own."""
    with tempfile.TemporaryDirectory(prefix="ordinary-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        for inner in ("home", "tmp"):
            (folder / inner).mkdir()
            os.chown(folder / inner, UID, UID)
        yield folder


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(os.geteuid() != 0 or not processes.LINUX, reason="only root can become somebody else")
def test_every_attack_as_an_ordinary_user(home: Path) -> None:
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home / "home"),
        "TMPDIR": str(home / "tmp"),
        "USER": "ordinary",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(ROOT),
    }
    become = [sys.executable, str(Path(__file__).with_name("ordinary_user.py")), str(UID)]
    suite = ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__).parent), f"--ignore={__file__}"]
    suite += ["-k", "not test_ray and not ten_thousand and not many_streams"]
    done = subprocess.run(
        [*become, sys.executable, *suite], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
