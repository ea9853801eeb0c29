"""Whether a language model may be asked now: within the cap on dollars, and not while all calls fail. Pure.

Does not own the calls and their retries (operators/ensemble.py), or the exact accounting under the cap (purse.py).
"""

from __future__ import annotations

from autoresearch_ray.ledger import Ledger

FAILURES = 5
"""So many births in a row without a reply and the models count as down."""
PAUSE_SECONDS = 60.0
"""They are then left alone for so long, doubled each time, at most `LONGEST_PAUSE_SECONDS`."""
LONGEST_PAUSE_SECONDS = 1800.0


class Availability:
    """Decides birth by birth, so that a search never waits for a model that does not answer or cannot be paid."""

    def __init__(self, models: int, call_usd: float) -> None:
        """Begin with everything available.

        Args:
            models: configured models; none makes the search offline.
            call_usd: the most that one call may cost.
        """
        self._models = models
        self._call_usd = call_usd
        self._failures = 0
        self._until = 0.0
        self._pause = PAUSE_SECONDS

    @property
    def down(self) -> bool:
        """True while the models are left alone because they do not answer."""
        return self._failures >= FAILURES

    def now(self, now: float, ledger: Ledger, in_flight: int) -> bool:
        """Say whether the next birth may ask.

        Args:
            now: seconds since the epoch.
            ledger: dollars spent, and the cap.
            in_flight: births that ask already; each may cost a first and a second call.
        """
        if not self._models or (self.down and now < self._until):
            return False
        cap = ledger.limits.usd
        return cap is None or ledger.spent.usd + 2 * (in_flight + 1) * self._call_usd <= cap

    def paid(self, usd: float) -> None:
        """Take in what a birth cost whose asking has no price beforehand: the next may cost as much as the dearest."""
        self._call_usd = max(self._call_usd, usd / 2)

    def answered(self, replied: bool, now: float) -> None:
        """Take in whether a birth that asked got an answer, usable or not; one ends a pause."""
        if replied:
            self._failures, self._pause = 0, PAUSE_SECONDS
            return
        self._failures += 1
        if self.down:
            self._until = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
