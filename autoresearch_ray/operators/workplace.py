"""Where one birth's question is worked on, when whoever answers needs a folder for it: an agent's, or a person's.

Owns the seam alone. Does not own what lies there (agent.py, inbox.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager

from autoresearch_ray.operators.mutation import Asks
from autoresearch_ray.operators.request import Request


class Workplace(ABC):
    """Opens a folder for each question. Thread-safe."""

    @abstractmethod
    def open(self, request: Request) -> AbstractContextManager[Asks]:
        """Lay out what a request is about; whoever is asked inside the context answers for it alone."""

    @abstractmethod
    def check(self) -> None:
        """Find out before the first birth whether anybody can be asked (Raises ConfigError)."""

    @abstractmethod
    def close(self) -> None:
        """End what is still being worked on; twice does no harm."""


def counted(text: str) -> int:
    """Return about how many tokens a text has, for those who have no tokenizer that we know."""
    return len(text) // 4
