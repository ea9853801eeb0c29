"""A foreign git repository, only read: the commits of a branch and the program in each.

Does not own git's processes (repository.py) or what the commits mean (autoresearch.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from autoresearch_ray.errors import UsageError
from autoresearch_ray.lineage.repository import Git, translated

SHORTEST = 4
"""Digits that an abbreviated hash has at least."""

_FORMAT = "--format=%H%x09%P%x09%ct%x09%s"


@dataclass(frozen=True, slots=True)
class Revision:
    """One commit."""

    sha: str
    parents: tuple[str, ...]
    at: datetime
    subject: str


class History:
    """Reads a repository; nothing of its configuration, hooks or filters is run.

    Args:
        folder: the checkout, or a linked work tree.

    Raises:
        UsageError: the folder is not a git checkout.
    """

    def __init__(self, folder: Path) -> None:
        self._own = _git_directory(folder)
        common = self._own / "commondir"
        shared = (self._own / common.read_text().strip()).resolve() if common.is_file() else self._own
        self._git = Git(shared)
        self.folder = folder

    def branch(self, name: str | None) -> list[Revision]:
        """Return a branch's commits along first parents, oldest first; by default of what is checked out.

        Raises:
            UsageError: there is no such branch.
            RepositoryError: git failed.
        """
        wanted = name or self._checked_out()
        found = self._resolve(wanted)
        if found is None:
            raise UsageError(f"{self.folder} has no branch {wanted!r}: there are {', '.join(self._branches())}.")
        with translated(self.folder):
            lines = self._git.run("log", "--first-parent", "--reverse", _FORMAT, found).splitlines()
        return [_revision(line) for line in lines]

    def find(self, sha: str) -> Revision | None:
        """Return a commit by the beginning of its hash; None if it is gone, or none was meant."""
        found = self._resolve(sha)
        if found is None:
            return None
        with translated(self.folder):
            return _revision(self._git.run("log", "-1", _FORMAT, found))

    def source(self, sha: str, path: str) -> str | None:
        """Return a file of a commit as text; None if it has none of that name."""
        with translated(self.folder):
            names = self._git.run("ls-tree", "--name-only", sha, "--", path).splitlines()
            return self._git.blob(f"{sha}:{path}") if path in names else None

    def _resolve(self, name: str) -> str | None:
        """Return the hash of a branch or an abbreviated commit; None if nothing, or more than one, is called so."""
        with translated(self.folder):
            branches = self._git.refs("refs/heads")
            if f"refs/heads/{name}" in branches:
                return branches[f"refs/heads/{name}"]
            if len(name) < SHORTEST or set(name.lower()) - set("0123456789abcdef"):
                return None
            matches = self._git.run("rev-parse", f"--disambiguate={name}").split()
            commits = [match for match in matches if self._git.run("cat-file", "-t", match) == "commit"]
        return commits[0] if len(commits) == 1 else None

    def _checked_out(self) -> str:
        head = (self._own / "HEAD").read_text(encoding="utf-8").strip()
        return head.removeprefix("ref: refs/heads/")

    def _branches(self) -> list[str]:
        with translated(self.folder):
            return [ref.removeprefix("refs/heads/") for ref in self._git.refs("refs/heads")] or ["none"]


def _git_directory(folder: Path) -> Path:
    marker = folder / ".git"
    if marker.is_file():
        pointed = marker.read_text(encoding="utf-8").strip()
        return (folder / pointed.removeprefix("gitdir: ")).resolve()
    if not (marker / "HEAD").is_file():
        raise UsageError(f"{folder} is not a git checkout: name the folder of a run of autoresearch.")
    return marker


def _revision(line: str) -> Revision:
    sha, parents, seconds, subject = line.split("\t", 3)
    return Revision(sha, tuple(parents.split()), datetime.fromtimestamp(int(seconds), timezone.utc), subject)
