"""Rate limits of one model: when the next call may begin, so that no 60 seconds hold more than is allowed. Thread-safe.

Does not own waiting (the caller sleeps) or what a provider says about its own limits (faults.py).
"""

from __future__ import annotations

import threading
from collections import deque

WINDOW_SECONDS = 60.0


class Throttle:
    """Books calls in the order in which they ask."""

    def __init__(self, requests: int | None, tokens: int | None) -> None:
        """Begin with nothing booked.

        Args:
            requests: calls in any 60 seconds; None is no limit.
            tokens: tokens in any 60 seconds; None is no limit.
        """
        self._requests = requests
        self._tokens = tokens
        self._booked: deque[tuple[float, int]] = deque()
        self._not_before = 0.0
        self._lock = threading.Lock()

    def book(self, now: float, tokens: int) -> float:
        """Return when a call of so many tokens may begin, at the earliest `now`, and count it from then on.

        A call that is larger than the limit begins when nothing else was begun for a whole window.
        """
        with self._lock:
            last = self._booked[-1][0] if self._booked else now
            start = max(now, last, self._not_before)
            while (wait := self._full_until(start, tokens)) is not None:
                start = wait
            if self._requests is not None or self._tokens is not None:
                self._booked.append((start, tokens))
            while self._booked and self._booked[0][0] + WINDOW_SECONDS <= now:
                self._booked.popleft()
            return start

    def hold(self, until: float) -> None:
        """Let no call begin before then: the provider asked for a pause."""
        with self._lock:
            self._not_before = max(self._not_before, until)

    def _full_until(self, start: float, tokens: int) -> float | None:
        """Return when the first call within the window before `start` leaves it, or None if there is room."""
        within = [(begun, size) for begun, size in self._booked if begun + WINDOW_SECONDS > start]
        if not within:
            return None
        too_many = self._requests is not None and len(within) >= self._requests
        too_large = self._tokens is not None and sum(size for _, size in within) + tokens > self._tokens
        return within[0][0] + WINDOW_SECONDS if too_many or too_large else None
