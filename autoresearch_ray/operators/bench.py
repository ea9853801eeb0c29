"""Which models are left alone for a while because they keep failing. Pure: the caller says what time it is.

Does not own single calls and their retries (ensemble.py), or whether births ask at all (evolution/availability.py).
"""

from __future__ import annotations

from dataclasses import dataclass

FAILURES = 3
"""So many failed calls in a row, each after its retries, and a model is benched."""
FIRST_SECONDS = 60.0
"""For so long; for twice as long each further time, until it has answered."""
LONGEST_SECONDS = 1800.0


@dataclass
class _Record:
    failures: int = 0
    until: float = 0.0
    pause: float = FIRST_SECONDS
    reason: str = ""


class Bench:
    """Counts failures in a row by model. When its time is over a model is tried again, and one failure benches it."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}

    def failed(self, model: str, now: float, reason: str) -> None:
        """Take in that a call failed."""
        record = self._records.setdefault(model, _Record())
        record.failures, record.reason = record.failures + 1, reason
        if record.failures >= FAILURES and now >= record.until:
            record.until = now + record.pause
            record.pause = min(2 * record.pause, LONGEST_SECONDS)

    def answered(self, model: str) -> None:
        """Take in that a model answered."""
        self._records.pop(model, None)

    def seconds_left(self, model: str, now: float) -> float:
        """Return for how long the model is to be left alone; 0 when it may be asked."""
        record = self._records.get(model)
        return max(0.0, record.until - now) if record else 0.0

    def reason(self, model: str) -> str:
        """Return why its last call failed; empty when it did not."""
        record = self._records.get(model)
        return record.reason if record else ""
