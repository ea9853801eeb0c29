"""The supervisor of one slot: keeps its trusted processes warm, and runs one experiment after the other.

The trusted side's front door. Does not own how an experiment runs (trial.py, reported.py) nor what is decided from its
result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic

from autoresearch_ray.errors import SupervisionError
from autoresearch_ray.training.attempt import Attempt, ClientT, Phase
from autoresearch_ray.training.crew import Crew
from autoresearch_ray.training.data import open_data
from autoresearch_ray.training.limits import SupervisorSettings
from autoresearch_ray.training.sandbox.promises import Promise
from autoresearch_ray.training.trial import Trial
from autoresearch_ray.variant import Experiment, Result

__all__ = ["Phase", "SlotSupervisor", "Supervisor", "SupervisorSettings"]


class SlotSupervisor(Generic[ClientT]):
    """Runs variants, one at a time, in processes of their own. Not thread-safe."""

    def __init__(
        self, start: Callable[[], ClientT], attempt: Callable[[ClientT, Experiment], Attempt[ClientT]]
    ) -> None:
        """Start the trusted processes, without waiting for them.

        Args:
            start: starts them, now and whenever they were lost.
            attempt: makes an experiment, not yet begun.
        """
        self._start = start
        self._attempt = attempt
        self._crew: ClientT | None = start()
        self._running = False
        self._closed = False

    def warm_up(self) -> None:
        """Wait until the next experiment can start at once.

        Raises:
            SupervisionError: the trusted processes cannot be started.
        """
        self._ready_crew()

    @property
    def promises(self) -> tuple[Promise, ...]:
        """What became of each promise of the sandbox on this machine; none without walls, or before `warm_up`."""
        return () if self._crew is None else self._crew.promises

    def run(self, experiment: Experiment) -> Iterator[Phase | Result]:
        """Run one variant.

        Nothing runs until the first item is asked for, and what is not asked for is not served: ask without long
        pauses. However the iterator is left, also by closing it early, every process of the variant is dead then and
        its files are gone.

        Yields:
            Now and then a `Phase`, at last exactly one `Result`. What the variant does wrong is a status; a trusted
            process that dies makes the status `lost`, and is replaced for the next experiment.

        Raises:
            SupervisionError: the trusted processes cannot be started, or an experiment is already running.
        """
        if self._running:
            raise SupervisionError("This supervisor is running an experiment; it runs one at a time.")
        crew = self._ready_crew()
        self._running = True
        try:
            with self._attempt(crew, experiment) as attempt:
                yield from attempt.phases()
        except OSError as error:
            raise SupervisionError(f"This machine cannot hold an experiment: {error}.") from error
        finally:
            self._running = False
        yield attempt.result()

    def close(self) -> None:
        """End the trusted processes and whatever runs; twice does no harm."""
        self._closed = True
        if self._crew is not None:
            self._crew.close()
            self._crew = None

    def __enter__(self) -> SlotSupervisor[ClientT]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _ready_crew(self) -> ClientT:
        if self._closed:
            raise SupervisionError("This supervisor is closed.")
        if self._crew is None or self._crew.lost:
            if self._crew is not None:
                self._crew.close()
            self._crew = self._start()
        self._crew.wait_ready()
        return self._crew


class Supervisor(SlotSupervisor[Crew]):
    """Trains and scores variants: the score is computed here, from logits.

    The processes start with the object and import torch meanwhile; the first experiment waits for them.
    """

    def __init__(self, settings: SupervisorSettings) -> None:
        """Open the data and start the launcher.

        Raises:
            DataError: the data is not prepared, or damaged.
            SupervisionError: prepare.py cannot be read.
        """
        data = open_data(settings.data)
        super().__init__(lambda: Crew(settings), lambda crew, experiment: Trial(settings, data, crew, experiment))
