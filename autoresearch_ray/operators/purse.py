"""The cap on dollars: reserve before a call, settle after. Thread-safe arithmetic.

Does not own prices (llm.py) or the run's other limits (ledger.py).
"""

from __future__ import annotations

import math
import threading


class Purse:
    """Dollars spent and reserved under a cap. Thread-safe."""

    def __init__(self, cap: float | None, spent: float = 0.0) -> None:
        self.cap = cap
        self.spent = spent
        self._reservations: list[float] = []
        self._changed = threading.Condition()

    @property
    def committed(self) -> float:
        """Dollars spent, and those that calls under way may cost at most."""
        with self._changed:
            return self.spent + self._reserved()

    def reserve(self, usd: float) -> bool:
        """Reserve dollars, waiting for others' reservations to end where they are in the way.

        Returns:
            False, and nothing reserved, when it does not fit under the cap even without them.
        """
        with self._changed:
            while not self._fits(usd, self._reserved()):
                if not self._fits(usd, 0.0):
                    return False
                self._changed.wait()
            self._reservations.append(usd)
            return True

    def settle(self, reserved: float, usd: float) -> None:
        """Turn a reservation into what was really spent (Raises ValueError: there is no such reservation)."""
        with self._changed:
            self._reservations.remove(reserved)
            self.spent += usd
            self._changed.notify_all()

    def _reserved(self) -> float:
        return math.fsum(self._reservations)

    def _fits(self, usd: float, reserved: float) -> bool:
        return self.cap is None or self.spent + reserved + usd <= self.cap
