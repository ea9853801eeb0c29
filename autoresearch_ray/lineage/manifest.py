"""The manifest: the only truth about which files belong to a lineage, replaced atomically.

Does not own the files' content (parts.py, journal.py) or when it changes (store.py).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from autoresearch_ray.errors import RunError
from autoresearch_ray.lineage import files
from autoresearch_ray.lineage.schema import SCHEMA_VERSION, TABLES, TableName, check_version


@dataclass(frozen=True, slots=True)
class Part:
    """One sealed Parquet file: the rows of one table within a range of sequences, in their order."""

    table: TableName
    number: int
    rows: int
    bytes: int
    first_sequence: int
    last_sequence: int
    level: int = 0
    """How often its rows have been merged."""

    @property
    def name(self) -> str:
        """The file's name in its table's folder."""
        return f"part-{self.number:08d}.parquet"


@dataclass(frozen=True, slots=True)
class Obsolete:
    """A part that compaction has replaced, kept for readers that began before."""

    table: TableName
    name: str
    since: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Which files make up the lineage: the parts, and one journal with everything behind `sealed`."""

    run: str
    journal: str
    sealed: int = -1
    """The last sequence that the parts hold; -1 when there is none."""
    next_part: int = 0
    parts: tuple[Part, ...] = ()
    obsolete: tuple[Obsolete, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def parts_of(self, table: TableName) -> tuple[Part, ...]:
        """Return a table's parts in the order of their sequences."""
        return tuple(sorted((p for p in self.parts if p.table == table), key=lambda part: part.first_sequence))


def lineage_folder(run: Path) -> Path:
    """Return the folder of the lineage inside a run's folder."""
    return run / "lineage"


def part_path(lineage: Path, table: TableName, name: str) -> Path:
    """Return where a part lies."""
    return lineage / table / name


def journal_path(lineage: Path, name: str) -> Path:
    """Return where a journal lies."""
    return lineage / "journal" / name


def exists(run: Path) -> bool:
    """Say whether a folder is a run: its manifest is written last when a run is made."""
    return (lineage_folder(run) / "manifest.json").is_file()


def write(run: Path, manifest: Manifest) -> None:
    """Replace the manifest, durably and at one stroke."""
    text = json.dumps(asdict(manifest), indent=1)
    files.write_atomically(lineage_folder(run) / "manifest.json", text.encode())


def read(run: Path) -> Manifest:
    """Read a run's manifest.

    Raises:
        RunError: the folder is not a run, was written by a newer engine, or its manifest is damaged.
    """
    path = lineage_folder(run) / "manifest.json"
    try:
        values = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        what = "holds no run" if run.is_dir() else "does not exist"
        raise RunError(f"{run} {what}: name the folder of a run, as in runs/nov24.") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}): restore it from a backup.") from error
    try:
        check_version(int(values["schema_version"]), run)
        parts = tuple(Part(**part) for part in values.pop("parts"))
        obsolete = tuple(Obsolete(**entry) for entry in values.pop("obsolete"))
        manifest = Manifest(**values, parts=parts, obsolete=obsolete)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}): restore it from a backup.") from error
    if any(part.table not in TABLES for part in parts):
        raise RunError(f"{path} is damaged (unknown table): restore it from a backup.")
    return manifest
