"""What `run` and `score` say about the sandbox before anything is spent: nothing, one loud line, or a refusal."""

from __future__ import annotations

from collections.abc import Sequence

from autoresearch_ray.cli.output import errors
from autoresearch_ray.cluster.trainer import Trainer
from autoresearch_ray.errors import ConfigError, SupervisionError
from autoresearch_ray.training.confinement import demand
from autoresearch_ray.training.launching import check_sandbox
from autoresearch_ray.training.sandbox.promises import Promise


def check(trainer: Trainer) -> None:
    """Try the sandbox on this machine, and say what it does not keep.

    Raises:
        ConfigError: the sandbox is required, and a promise does not hold.
    """
    level = trainer.confinement.sandbox.level
    if level == "off":
        errors.print("warning: sandbox is off: variants run with all that this user may do.", style="bold yellow")
        return
    promises = check_sandbox(trainer.confinement)
    if level == "required":
        try:
            demand(promises)
        except SupervisionError as error:
            raise ConfigError(str(error)) from None
    if told := missing(promises):
        errors.print(told, style="bold yellow", markup=False, soft_wrap=True)


def missing(promises: Sequence[Promise]) -> str | None:
    """Return one line that names the promises that do not hold, None when all do."""
    broken = [promise.name for promise in promises if not promise.held]
    if not broken:
        return None
    return (
        f"warning: the sandbox does not keep {len(broken)} of {len(promises)} promises on this machine "
        f"({', '.join(broken)}): `arr doctor` says why and what to do."
    )
