"""What `readable:` must not name: what variants are scored on, wherever a copy of it lies, the runs, home and its keys.

Works once, before a run starts, on the machine that starts it. Does not own how reading is kept to a list (sandbox/).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from autoresearch_ray.errors import DataError
from autoresearch_ray.training.sandbox.readable import overlap

KEYS = (".ssh", ".aws", ".azure", ".config/gcloud", ".docker", ".gnupg", ".kube", ".netrc", ".pgpass", ".ray")
"""Where a home directory keeps keys and tokens."""
SHORTEST_TEXT = 256
"""Bytes: shorter files, as empty `__init__.py`, are alike without being copies."""
LOOKED_AT = 200_000
"""Files below one path of `readable:` that are looked at; what lies beyond is not checked for copies."""


def refuse_private(paths: Iterable[Path], storage: Path) -> None:
    """Raise DataError for a path that holds the home directory or is where it keeps keys, or that shows the runs.

    Args:
        paths: what `readable:` names.
        storage: the folder of the runs.
    """
    home = Path.home().resolve()
    for path in paths:
        real = path.resolve()
        if real == home or real in home.parents:
            raise DataError(f"readable: {path} would show variants your home directory ({home}); list what they need.")
        if shown := next((key for key in KEYS if overlap([path], home / key)), None):
            raise DataError(f"readable: {path} would show variants your keys (~/{shown}); list less.")
        if overlap([path], storage):
            raise DataError(f"readable: {path} would show variants the runs and their lineage ({storage}); list less.")


def refuse_scored(paths: Iterable[Path], folder: Path, corpus: Path) -> None:
    """Raise DataError for a path through which a variant could read what it is scored on.

    Args:
        paths: what `readable:` names.
        folder: the prepared data.
        corpus: the folder or file that they come from, if there is one of that name.
    """
    packages = _packages(folder)
    prepared = Path(os.environ.get("AUTORESEARCH_CACHE") or "~/.cache/autoresearch-ray").expanduser()
    for path in paths:
        for secret in (folder, prepared, *([corpus] if corpus.exists() else [])):
            if overlap([path], secret):
                raise DataError(f"readable: {path} would show variants what they are scored on ({secret}); list less.")
        if copy := find_text(path, packages):
            raise DataError(
                f"readable: {path} holds text of the corpus ({copy}), which variants are trained and scored on: "
                "list less, or take another data.corpus."
            )


def find_text(path: Path, packages: Iterable[str]) -> Path | None:
    """Return a file at or below a path that is one of those that these distributions installed, or a copy of one."""
    known = _hashes(packages)
    for file in islice(_files(path), LOOKED_AT) if known else ():
        with contextlib.suppress(OSError):
            if os.stat(file).st_size in known and _digest(file) in known[os.stat(file).st_size]:
                return file
    return None


def _packages(folder: Path) -> tuple[str, ...]:
    """Return the distributions whose source the prepared data are made of; none for another corpus."""
    settings = json.loads((folder / "meta.json").read_text(encoding="utf-8")).get("settings", {})
    return tuple(settings.get("packages", ()))


def _hashes(packages: Iterable[str]) -> dict[int, set[str]]:
    """Return the hashes of all Python files of distributions by their size, as pip has written them down."""
    known: dict[int, set[str]] = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            for file in importlib.metadata.files(name) or ():
                if file.suffix == ".py" and file.hash and (file.size or 0) >= SHORTEST_TEXT:
                    known.setdefault(file.size or 0, set()).add(file.hash.value)
    return known


def _digest(file: Path) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest()).decode().rstrip("=")


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    for root, _, names in os.walk(path):
        for name in names:
            yield Path(root, name)
