"""New git repositories to take home: a run's whole lineage, or any history made of the same pieces.

Does not own git's processes (repository.py) or what a commit says (projection.py).
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from autoresearch_ray.errors import UsageError
from autoresearch_ray.lineage import fast_import
from autoresearch_ray.lineage.projector import Projector, Segment
from autoresearch_ray.lineage.repository import Git, translated


@dataclass(frozen=True, slots=True)
class Written:
    """A new repository."""

    out: Path
    commits: int
    branches: dict[str, str]
    """The commits' hashes by the branches' names."""


def export(folder: Path, out: Path) -> Written:
    """Write a run's lineage as a new repository with the champion's program, or else the best one's, checked out.

    Args:
        folder: the run's folder; the run may be live.
        out: a folder that is empty or does not exist.

    Raises:
        UsageError: `out` is in use or cannot be made.
        RepositoryError: git is not installed or failed; what was written has been removed.
        RunError: the folder is not a run.
    """
    return write(out, Projector(folder, ()).segments())


def write(out: Path, segments: Iterable[Segment]) -> Written:
    """Write a new repository with its HEAD checked out.

    Args:
        out: a folder that is empty or does not exist.
        segments: what it is to hold, made of `fast_import`'s commands.

    Raises:
        UsageError: `out` is in use or cannot be made.
        RepositoryError: git is not installed or failed; what was written has been removed.
    """
    made = _refuse_unless_empty(out)
    git = Git(out / ".git", out)
    try:
        with translated(out):
            git.create(bare=False)
            commits = git.write(segments)
            git.finish()
            branches = git.refs("refs/heads")
            if branches:
                git.run("reset", "--hard", "--quiet")
    except BaseException:
        shutil.rmtree(out / ".git", ignore_errors=True)
        (out / fast_import.FILE).unlink(missing_ok=True)
        if made:
            with contextlib.suppress(OSError):
                out.rmdir()
        raise
    return Written(out, commits, {ref.removeprefix("refs/heads/"): name for ref, name in branches.items()})


def _refuse_unless_empty(out: Path) -> bool:
    """Make the folder if it is missing; say whether it was."""
    try:
        if out.is_dir():
            if any(out.iterdir()):
                raise UsageError(f"{out} is not empty: name a new folder for the repository.")
            return False
        out.mkdir(parents=True)
    except FileExistsError:
        raise UsageError(f"{out} is a file: name a new folder for the repository.") from None
    except OSError as error:
        raise UsageError(f"{out} cannot be made ({error.strerror or error}): name another folder.") from error
    return True
