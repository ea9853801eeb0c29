"""The errors this package raises on purpose; anything else that escapes is a defect.

    AutoresearchError                 base: the message is one sentence that says what is wrong and what to do
    ├── UsageError                    the user can mend it before a run starts: exit code 2
    │   ├── ConfigError               a configuration key or value
    │   ├── DataError                 training data that is missing, short or damaged
    │   ├── SeedError                 the seed program does not parse or crashes on its first training
    │   └── RunError                  a run folder that is missing, taken, foreign or damaged
    ├── ClusterError                  Ray cannot be reached or has no room for one experiment
    ├── StorageError                  the run's folder cannot be written any more (disk full): exit code 1
    ├── RepositoryError               git is missing or failed; the lineage is whole and the run can go on without
    └── SupervisionError              the trusted side of an experiment failed (not the variant)

What a variant does wrong is never an exception: it is a `Status` with a reason.
"""

from __future__ import annotations


class AutoresearchError(Exception):
    """Base of everything raised on purpose; `str(error)` is a sentence for the user."""

    exit_code = 1


def why(error: OSError | UnicodeError) -> str:
    """Return what an operating system or a decoder objects to, without the path, which the sentence around it names."""
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


class UsageError(AutoresearchError):
    """Something the user can mend before anything is spent."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration key or value that cannot be used."""


class DataError(UsageError):
    """Training data that is missing, short or damaged."""


class SeedError(UsageError):
    """The seed program does not parse, or crashes on its first training."""


class RunError(UsageError):
    """A run folder that is missing, already taken, not a run, or damaged."""


class ClusterError(UsageError):
    """Ray cannot be reached, or has no room for a single experiment."""


class StorageError(AutoresearchError):
    """The run's folder cannot be written: the disk is full or failing. What was recorded before stays."""


class RepositoryError(AutoresearchError):
    """The git projection cannot be written: git is missing or failed. The lineage is whole; a run can go on without."""


class SupervisionError(AutoresearchError):
    """The trusted side of an experiment failed; the variant is not to blame."""
