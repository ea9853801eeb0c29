"""autoresearch-ray: evolve train.py on Ray.

`open_run(path)` opens a run for Python; everything else is used from the command line.
"""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoresearch_ray.lineage.run import Run

import os

# The engine's matrices are small: BLAS threads that wait for each other on busy cores would take fifty times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

__version__ = "0.1.0"


def open_run(path: str | PathLike[str]) -> Run:
    """Open a run, live or finished, as a `lineage.run.Run` with PyArrow tables.

    Args:
        path: its folder, its name in `runs/`, or a URI of `pyarrow.fs`.

    Raises:
        RunError: there is no run.
    """
    from autoresearch_ray.lineage import run  # processes that train import this package and need no Parquet

    return run.open_run(path)
