"""The git projection of a run, `variants.git`; the one home of GitPython.

Parquet is the truth; this can be thrown away at any time. Does not own what a commit says (projection.py).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from autoresearch_ray.errors import RepositoryError, RunError
from autoresearch_ray.lineage import fast_import, files
from autoresearch_ray.lineage.projector import Projector, Segment

FOLDER = "variants.git"
LOCK = "projector"
"""Inside the repository; not called `*.lock`, as git's own are, because those are cleared away after a kill."""

PACKS = 64
"""Packs (one an update) after which they are merged, each object about log2(updates / PACKS) times in all."""

PATIENCE_SECONDS = 10.0
"""How long to wait for a git that has outlived its killed parent and still holds the lock."""

_OPTIONS = (
    f"core.hooksPath={os.devnull}",
    "core.logAllRefUpdates=false",
    "core.autocrlf=false",
    "gc.auto=0",
    "fastimport.unpackLimit=1",
    "core.filesRefLockTimeout=10000",  # milliseconds; merging refs locks each for a moment
    "core.packedRefsTimeout=10000",
    "core.fsync=objects,derived-metadata",  # refs that a power failure leaves empty are made again
)
_MERGE_PACKS = ("repack", "-d", "-n", "--quiet", "--geometric=2")
_MERGE_REFS = ("pack-refs", "--all")


class Repository:
    """The bare repository `variants.git` of a run, brought up to date whenever `update` is called.

    `refs/variants/<id>` is each birth that has a source, failed ones included; `refs/heads/seed`, `best` (the best
    mean, unconfirmed) and `champion`. Scores that came after a commit was made are its note. A variant's ref is the
    record that it is projected: there is no other state, and a kill at any moment is mended by the next opening.

    Children wait for their parents' rows. Not safe for threads; one process at a time, kept so by a lock.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.directory = folder / FOLDER
        self._git = Git(self.directory)
        self._projector: Projector | None = None
        self._lock: IO[str] | None = None

    @classmethod
    def open(cls, folder: Path) -> Repository:
        """Open a run's repository, which is made if it is missing; what a kill left half-made is cleared away.

        Raises:
            RepositoryError: git is not installed or failed, or the folder cannot be written.
            RunError: another process has it open.
        """
        repository = cls(folder)
        with translated(repository.directory):
            repository._take()
            repository._begin()
        return repository

    def update(self) -> int:
        """Commit what the lineage got since the last update; nothing new costs a few `stat` calls.

        To be called after the lineage's own commit, so that nothing is projected that a power failure takes back.

        Returns:
            The number of commits made.

        Raises:
            RepositoryError: git or the disk failed. The lineage is whole; the next update tries again, and `rebuild`
                helps against a damaged repository.
            RunError: the folder is not a run.
        """
        with translated(self.directory):
            self._check_open()
            if not (self.directory / "HEAD").exists():  # thrown away while it was open
                with contextlib.suppress(RepositoryError):
                    self.close()
                self._take()
            projector = self._projector or self._begin()
            try:
                return self._git.write(projector.segments())
            except BaseException:
                self._projector = None  # it may have taken rows that were not written
                raise

    def rebuild(self) -> int:
        """Throw everything away and project the whole lineage again; the commits are the same.

        Returns:
            The number of commits made.

        Raises:
            RepositoryError: git or the disk failed.
            RunError: the folder is not a run.
        """
        self._check_open()
        self._projector = None
        with translated(self.directory):
            self._git.finish()
            for path in self.directory.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.name not in (LOCK, "HEAD"):
                    path.unlink()
        return self.update()

    def close(self) -> None:
        """Wait until git has put the repository in order, and let go of it.

        Raises:
            RepositoryError: git or the disk failed; the repository is let go of all the same.
        """
        self._projector = None
        try:
            with translated(self.directory):
                self._git.finish()
        finally:
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def __enter__(self) -> Repository:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _take(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self.directory / LOCK)
        self._git.inherited = (self._lock.fileno(),)

    def _begin(self) -> Projector:
        self._git.finish()  # what it has open would be cleared away too
        self._git.mend()
        self._git.create(bare=True)
        self._projector = Projector(self.folder, self._git.refs("refs/variants"))
        return self._projector

    def _check_open(self) -> None:
        if self._lock is None:
            raise ValueError(f"{self.directory} is closed")


def _locked(path: Path) -> IO[str]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(RunError):
            return files.lock(path)
    return files.lock(path)


# ------------------------------------------------------------------------------------------------------------------ git


class Git:
    """One repository through GitPython, deaf to the user's and the system's configuration, hooks and environment.

    To be used within `translated`.
    """

    def __init__(self, directory: Path, work_tree: Path | None = None) -> None:
        self.directory = directory.absolute()
        self.inherited: tuple[int, ...] = ()
        """Descriptors that git keeps open too: the lock is held until a git that outlives us has ended."""
        self._work_tree = (work_tree or directory).absolute()
        self._chore: Any = None
        self._chores: deque[tuple[str, ...]] = deque()

    def create(self, *, bare: bool) -> None:
        """Make the repository, or what is missing of it: no templates, no hooks, SHA-1, whatever git's defaults are."""
        for folder in ("objects/info", "objects/pack", "refs/heads"):
            (self.directory / folder).mkdir(parents=True, exist_ok=True)
        config = f"[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = {str(bare).lower()}\n"
        for name, text in (("config", config), ("HEAD", f"ref: {fast_import.branch_ref('best')}\n")):
            if not (self.directory / name).exists():
                files.write_atomically(self.directory / name, text.encode())

    def mend(self) -> None:
        """Clear away what a kill left of a git that was writing: locks, temporary files, empty refs, reports."""
        leftovers = [*self.directory.glob("*.lock"), *self.directory.glob(f"*{files.TEMPORARY}")]
        leftovers += [*self.directory.glob("fast_import_crash_*"), *self.directory.glob("packed-refs.new")]
        pack = self.directory / "objects" / "pack"
        leftovers += [*pack.glob("tmp_*"), *pack.glob(".tmp-*"), *pack.glob("*.keep")]
        for path in (self.directory / "HEAD", *(self.directory / "refs").rglob("*")):
            if path.is_file() and (path.suffix == ".lock" or path.stat().st_size == 0):
                leftovers.append(path)
        for path in leftovers:
            files.remove(path)

    def refs(self, prefix: str) -> dict[str, str]:
        """Return the hashes of the commits under a prefix by ref."""
        lines = self.run("for-each-ref", "--format=%(refname) %(objectname)", prefix).splitlines()
        return dict(line.split(" ") for line in lines)

    def run(self, *arguments: str) -> str:
        """Run a git command and return what it printed."""
        return str(self._execute(arguments))

    def blob(self, name: str) -> str:
        """Return a file's content as text, its last line feed included."""
        return str(self._execute(("cat-file", "blob", name), strip_newline_in_stdout=False))

    def write(self, segments: Iterable[Segment]) -> int:
        """Write segments, one process each; return the number of commits."""
        commits = 0
        for segment in segments:
            self.feed(segment.stream)
            self.name_head(segment.head)
            self.keep_house(segment.commits)
            commits += segment.commits
        return commits

    def feed(self, stream: Iterable[bytes]) -> None:
        """Pass a stream to fast-import, which keeps all of it or, if it is cut, none."""
        arguments = ("fast-import", "--quiet", "--force", "--done", "--date-format=raw")
        process = self._execute(arguments, istream=subprocess.PIPE, as_process=True)
        try:
            for piece in stream:
                process.stdin.write(piece)
            process.stdin.close()
        except BrokenPipeError:
            pass  # git has ended early; `wait` raises with its own words
        except BaseException:
            process.kill()
            process.proc.wait()
            raise
        process.wait()

    def name_head(self, ref: str) -> None:
        """Make HEAD name a ref."""
        if (self.directory / "HEAD").read_text(encoding="utf-8").strip() != f"ref: {ref}":
            self.run("symbolic-ref", "HEAD", ref)

    def keep_house(self, commits: int) -> None:
        """Begin to merge packs when there are many, and loose refs, which are a file each; nobody waits for it.

        Args:
            commits: made since the last time.
        """
        packs = sum(path.suffix == ".pack" for path in (self.directory / "objects" / "pack").iterdir())
        if not self._chores and (packs > PACKS or commits > PACKS):
            self._chores += [_MERGE_PACKS, _MERGE_REFS] if packs > PACKS else [_MERGE_REFS]
        self._next_chore(wait=False)

    def finish(self) -> None:
        """Wait until the house is kept."""
        while self._chore is not None or self._chores:
            self._next_chore(wait=True)

    def _next_chore(self, *, wait: bool) -> None:
        if self._chore is not None:
            if not wait and self._chore.poll() is None:
                return
            chore, self._chore = self._chore, None
            chore.wait()
        if self._chores:
            self._chore = self._execute(self._chores.popleft(), as_process=True)

    def _execute(self, arguments: tuple[str, ...], **how: Any) -> Any:
        import git

        options = [part for option in _OPTIONS for part in ("-c", option)]
        command = [git.Git.GIT_PYTHON_GIT_EXECUTABLE or "git", *options, *arguments]
        porcelain = git.Git(self.directory)
        return porcelain.execute(command, env=self._environment(), pass_fds=self.inherited, **how)

    def _environment(self) -> dict[str, str]:
        """Return what makes git see this repository and nothing else, also when we run in a hook or an alias of git.

        An explicit GIT_DIR also settles whose the folder is: git refuses to *find* repositories of another user.
        """
        directory = str(self.directory)
        name, address = fast_import.AUTHOR.rstrip(">").split(" <")
        return {
            "GIT_DIR": directory,
            "GIT_COMMON_DIR": directory,
            "GIT_WORK_TREE": str(self._work_tree),
            "GIT_INDEX_FILE": str(self.directory / "index"),
            "GIT_OBJECT_DIRECTORY": str(self.directory / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": "",
            "GIT_NAMESPACE": "",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_SYSTEM": os.devnull,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_PARAMETERS": "",
            "GIT_CONFIG_COUNT": "0",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_COMMITTER_NAME": name,
            "GIT_COMMITTER_EMAIL": address,
            "HOME": directory,
            "XDG_CONFIG_HOME": directory,
        }


_MISSING = "git was not found: install git and put it on PATH, or go on without a repository; the lineage is whole."
_FAILED = "git failed in {where} ({detail}); the lineage is whole, and the repository can be deleted and made again."
_DISK = "{where} cannot be written ({detail}); the lineage is whole, and the repository can be deleted and made again."


def _sentences() -> dict[type[Exception], str]:
    """Return what to say about each foreign exception; the first that fits counts."""
    table: dict[type[Exception], str] = {ImportError: _MISSING, OSError: _DISK}
    with contextlib.suppress(ImportError):  # GitPython refuses to be imported where there is no git
        from git import exc

        table = {exc.GitCommandNotFound: _MISSING, exc.GitError: _FAILED, **table}
    return table


@contextlib.contextmanager
def translated(directory: Path) -> Iterator[None]:
    """Turn what GitPython and the disk raise into a sentence.

    Raises:
        RepositoryError: in the place of every exception in the table.
    """
    try:
        yield
    except tuple(_sentences()) as error:
        sentence = next(text for kind, text in _sentences().items() if isinstance(error, kind))
        detail = getattr(error, "stderr", "") or getattr(error, "strerror", "") or str(error)
        raise RepositoryError(sentence.format(where=directory, detail=" ".join(str(detail).split())[:300])) from error
