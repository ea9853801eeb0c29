"""A run that lies elsewhere, at any `pyarrow.fs` URI, as a folder on this disk: copied once, then only what is new.

Parts never change, so that only journals and the manifest are read again. Does not own what the files mean.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import fs

from autoresearch_ray.errors import RunError
from autoresearch_ray.lineage import files, manifest

_ALSO = ("live.json", "config.yaml", "logs/llm")
"""What views read beside the lineage."""


def is_uri(name: str) -> bool:
    """Say whether a run is named by a URI and not by a name or a path."""
    return "://" in name


class Mirror:
    """A copy of a run, brought up to date by `refresh`. Never writes to where the run lies.

    Args:
        uri: the run's folder, as in `s3://bucket/runs/nov24`.
        cache: the folder that holds copies; the default is the user's cache.

    Raises:
        RunError: the URI cannot be read, or there is no run.
    """

    def __init__(self, uri: str, cache: Path | None = None) -> None:
        try:
            self._remote, root = fs.FileSystem.from_uri(uri)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise RunError(f"{uri} cannot be opened ({_line(error)}): name a folder or a URI of pyarrow.fs.") from error
        self.uri = uri
        self._root = PurePosixPath(root)
        name = f"{hashlib.blake2b(uri.encode(), digest_size=6).hexdigest()}"
        self.folder = (cache or _cache()) / name / (self._root.name or "run")
        self.refresh()

    def refresh(self) -> None:
        """Copy what is new, the manifest last, so that it never names a file that is not there.

        Raises:
            RunError: the place cannot be read, or there is no run.
        """
        try:
            self._refresh()
        except (pa.ArrowException, OSError) as error:
            raise RunError(f"{self.uri} cannot be read ({_line(error)}).") from error

    def _refresh(self) -> None:
        while True:
            found = self._listed(self._root / "lineage")
            head = str(self._root / "lineage" / "manifest.json")
            if head not in found:
                raise RunError(f"{self.uri} is not a run: it has no lineage/manifest.json.")
            before = self._read(head)
            others = [self._listed(self._root / name) for name in _ALSO]
            for path, size in {**found, **{path: size for each in others for path, size in each.items()}}.items():
                self._copy(path, size)
            if self._read(head) == before:
                break
        target = manifest.lineage_folder(self.folder) / "manifest.json"
        if not target.exists() or target.read_bytes() != before:
            files.write_atomically(target, before)
        self._forget(set(found))

    def _listed(self, where: PurePosixPath) -> dict[str, int]:
        """Return the files below a place, or the place itself if it is one, with their sizes."""
        info = self._remote.get_file_info(str(where))
        if info.type == fs.FileType.File:
            return {str(where): info.size}
        selector = fs.FileSelector(str(where), recursive=True, allow_not_found=True)
        return {each.path: each.size for each in self._remote.get_file_info(selector) if each.type == fs.FileType.File}

    def _copy(self, path: str, size: int) -> None:
        target = self._local(path)
        if target is None or target.name == "manifest.json":
            return
        sealed = target.suffix == ".parquet"
        if sealed and target.exists() and target.stat().st_size == size:
            return
        try:
            content = self._read(path)
        except FileNotFoundError:
            return  # compaction has deleted it meanwhile; the next manifest does not name it
        if target.exists() and not sealed and target.read_bytes() == content:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = files.temporary(target)
        temporary.write_bytes(content)
        os.replace(temporary, target)

    def _local(self, path: str) -> Path | None:
        """Return where a file is copied to; None for what would lie outside the copy, and for locks."""
        parts = PurePosixPath(path).relative_to(self._root).parts if path.startswith(str(self._root)) else ("..",)
        if ".." in parts or parts[-1] == "lock":
            return None
        return self.folder.joinpath(*parts)

    def _read(self, path: str) -> bytes:
        with self._remote.open_input_stream(path) as stream:
            return bytes(stream.read())

    def _forget(self, kept: set[str]) -> None:
        names = {target for target in map(self._local, kept) if target is not None}
        for path in manifest.lineage_folder(self.folder).rglob("*"):
            if path.is_file() and path not in names:
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete the copy."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)


def _cache() -> Path:
    given = os.environ.get("AUTORESEARCH_CACHE")
    return (Path(given) if given else Path.home() / ".cache" / "autoresearch-ray") / "mirrors"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
