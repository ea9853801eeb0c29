"""Where a new run starts from: `run --from RUN` carries another one on, `--from RUN:ID` takes one program as its seed.

Owns the copy of the seed folder. Does not own the run (running.py), or what is carried (evolution/inheritance.py).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from autoresearch_ray.cli.exploring import open_lineage
from autoresearch_ray.config import Config
from autoresearch_ray.errors import UsageError
from autoresearch_ray.lineage import finding
from autoresearch_ray.lineage.mirror import Mirror, is_uri

FOLDER = ".seeds"
"""Inside the storage folder; each copy is named by the run and the variant it came from."""


def started_from(config: Config, origin: str) -> dict[str, Any]:
    """Return the configuration keys that `--from` stands for.

    Args:
        config: the new run's.
        origin: `RUN`, or `RUN:ID`.

    Raises:
        UsageError: there is no such run or variant, or it cannot be started from.
    """
    if _named(origin) is not None:
        return {"seed_model": str(seed_folder(config, origin))}
    if is_uri(origin):
        Mirror(origin)
        return {"carry_from": origin}
    return {"carry_from": str(finding.find_run(config.storage, origin).absolute())}


def _named(origin: str) -> tuple[str, str] | None:
    """Split `RUN:ID`; None where no variant is named, as in a name, a folder or a URI alone."""
    name, colon, identity = origin.rpartition(":")
    return (name, identity) if colon and name and "/" not in identity else None


def seed_folder(config: Config, origin: str) -> Path:
    """Return a copy of the seed model's folder in which the evolved file is another run's variant.

    Args:
        config: the new run's.
        origin: `RUN:ID`; RUN is a name in the storage folder, a folder or a URI, ID what `lineage show` takes.

    Raises:
        UsageError: no variant is named, there is none such, it has no source, or the copy cannot be written.
    """
    named = _named(origin)
    if named is None or not named[1]:
        raise UsageError(f"--from {origin} names no variant: name a run and one of its variants, as nov24:best.")
    name, identity = named
    lineage = open_lineage(Path(config.storage), name)
    position = lineage.find(identity)
    source = lineage.source(position)
    if not source:
        raise UsageError(f"--from {origin}: {lineage.ids[position]} has no source, so that nothing can start from it.")
    folder = Path(config.storage).absolute() / FOLDER / f"{lineage.tables.folder.name}-{lineage.ids[position]}"
    try:
        shutil.copytree(
            config.seed_model, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".*")
        )
        (folder / config.evolved_file).write_text(source, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror or error}).") from error
    return folder
