"""Where a new run starts from: `run --from RUN:ID` takes another run's program as its seed.

Owns the copy of the seed folder. Does not own the run (running.py).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from autoresearch_ray.cli.exploring import open_lineage
from autoresearch_ray.config import Config
from autoresearch_ray.errors import UsageError

FOLDER = ".seeds"
"""Inside the storage folder; each copy is named by the run and the variant it came from."""


def seed_folder(config: Config, origin: str) -> Path:
    """Return a copy of the seed model's folder in which the evolved file is another run's variant.

    Args:
        config: the new run's.
        origin: `RUN:ID`; RUN is a name in the storage folder, a folder or a URI, ID what `lineage show` takes.

    Raises:
        UsageError: no variant is named, there is none such, it has no source, or the copy cannot be written.
    """
    name, colon, identity = origin.rpartition(":")
    if not colon or not name or "/" in identity:
        raise UsageError(f"--from {origin} names no variant: name a run and one of its variants, as nov24:best.")
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
