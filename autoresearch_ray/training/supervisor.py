"""The supervisor of one slot: keeps a launcher and a scorer warm, and runs one experiment after the other.

The trusted side's front door. Does not own how an experiment runs (trial.py) nor what is decided from its result.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

from autoresearch_ray.errors import SupervisionError
from autoresearch_ray.training.crew import Crew
from autoresearch_ray.training.data import open_data
from autoresearch_ray.training.limits import SupervisorSettings
from autoresearch_ray.training.trial import Phase, Trial
from autoresearch_ray.variant import Experiment, Result

__all__ = ["Phase", "Supervisor", "SupervisorSettings"]


class Supervisor:
    """Trains and scores variants, one at a time, in processes of their own. Not thread-safe.

    The processes start with the object and import torch meanwhile; the first experiment waits for them.
    """

    def __init__(self, settings: SupervisorSettings) -> None:
        """Open the data and start the launcher.

        Raises:
            DataError: the data is not prepared, or damaged.
            SupervisionError: prepare.py cannot be read.
        """
        self._settings = settings
        self._data = open_data(settings.data)
        self._crew: Crew | None = Crew(settings)
        self._running = False
        self._closed = False

    def warm_up(self) -> None:
        """Wait until the next experiment can start at once.

        Raises:
            SupervisionError: the launcher or the scorer cannot be started.
        """
        self._ready_crew()

    def run(self, experiment: Experiment) -> Iterator[Phase | Result]:
        """Train and score one variant.

        Nothing runs until the first item is asked for, and what is not asked for is not served: ask without long
        pauses. However the iterator is left, also by closing it early, every process of the variant is dead then and
        its files are gone.

        Yields:
            Now and then a `Phase`, at last exactly one `Result`. What the variant does wrong is a status; a trusted
            process that dies makes the status `lost`, and is replaced for the next experiment.

        Raises:
            SupervisionError: the launcher or the scorer cannot be started, or an experiment is already running.
        """
        if self._running:
            raise SupervisionError("This supervisor is running an experiment; it runs one at a time.")
        crew = self._ready_crew()
        self._running = True
        try:
            with Trial(self._settings, self._data, crew, experiment) as trial:
                yield from trial.phases()
        except OSError as error:
            raise SupervisionError(f"This machine cannot hold an experiment: {error}.") from error
        finally:
            self._running = False
        yield trial.result()

    def close(self) -> None:
        """End the launcher, the scorer and whatever runs; twice does no harm."""
        self._closed = True
        if self._crew is not None:
            self._crew.close()
            self._crew = None

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _ready_crew(self) -> Crew:
        if self._closed:
            raise SupervisionError("This supervisor is closed.")
        if self._crew is None or self._crew.lost:
            if self._crew is not None:
                self._crew.close()
            self._crew = Crew(self._settings)
        self._crew.wait_ready()
        return self._crew
