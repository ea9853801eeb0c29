"""Runs a seed model's own prepare.py: the engine never prepares data itself, it asks where they lie.

Owns the child process and its answer. Does not own the rows (data.py reads them).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoresearch_ray.config import DataConfig
from autoresearch_ray.errors import DataError


@dataclass(frozen=True, slots=True)
class _Answer:
    folder: Path
    prepared: bool
    made: bool


def prepare(script: Path, data: DataConfig) -> tuple[Path, bool]:
    """Prepare the data with progress on stderr, or find them prepared.

    Returns:
        The folder, and whether it was made now.

    Raises:
        DataError: the corpus is missing, too small, damaged or cannot be downloaded; the message says which.
    """
    answer = _ask(script, data, ())
    return answer.folder, answer.made


def locate(script: Path, data: DataConfig) -> Path:
    """Return the folder of prepared data.

    Raises:
        DataError: they are not prepared yet.
    """
    answer = _ask(script, data, ("--locate",))
    if not answer.prepared:
        raise DataError(
            f"The data are not prepared ({answer.folder} is missing or incomplete): "
            "run `autoresearch-ray prepare` with the same configuration first."
        )
    return answer.folder


def _ask(script: Path, data: DataConfig, extra: Sequence[str]) -> _Answer:
    if not script.is_file():
        raise DataError(f"{script}: there is no such file; seed_model must name a folder with train.py and prepare.py.")
    options = [f"--{key.replace('_', '-')}={value}" for key, value in data.model_dump().items() if value is not None]
    command = [sys.executable, str(script), "--json", *options, *extra]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    try:
        answer = json.loads(finished.stdout)
        if "error" in answer:
            raise DataError(answer["error"])
        return _Answer(Path(answer["folder"]), answer["prepared"], answer["made"])
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{script} failed with exit code {finished.returncode}; what it said is above.") from None
