"""Tells a URL what a run came to, by plain HTTP POST, without ever holding the run up.

Owns the posting. What is worth telling is decided by `Teller.look`, from the driver's own standings.
"""

from __future__ import annotations

import json
import math
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPException

from autoresearch_ray.evolution.driver import Driver

_SECONDS = 10.0


class Teller:
    """Posts `{"run", "event", "text"}` from one thread; a URL that fails is reported once, as a line.

    Events: `best` (a new best guess, unconfirmed), `champion` (one was confirmed), `stall` (no better best guess for a
    while), `models_down`, `end`.
    """

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._pool = ThreadPoolExecutor(max_workers=1) if url else None
        self._best: str | None = None
        self._champion = 0
        self._stalled = False
        self._down = False
        self._posts: list[Future[str | None]] = []

    def look(self, driver: Driver) -> None:
        """Post what is new since the last look."""
        state, run = driver.state, driver.origin.run
        best = state.best
        if best is not None and best.number and best.variant_id != self._best and state.seed is not None:
            self._best, self._stalled = best.variant_id, False
            known, seed = state.posterior(best), state.posterior(state.seed)
            change = state.turn(known.mean) - state.turn(seed.mean)
            self._post(
                run,
                "best",
                f"{state.turn(known.mean):.4f} ± {known.sd:.4f} ({known.count} trained; {change:+.4f} ± "
                f"{math.hypot(known.sd, seed.sd):.4f} against the seed, unconfirmed): {best.hypothesis}",
            )
        if state.title.champion is not None and state.title.holder != self._champion:
            self._champion, verdict = state.title.holder, state.title.champion
            self._post(
                run,
                "champion",
                f"{state.turn(verdict.mean):.4f} ± {verdict.sd:.4f} ({verdict.pairs} fresh seeds; better by "
                f"{verdict.gain:.4f} ± {verdict.gain_sd:.4f}, P = {verdict.p_better:.3f}): "
                f"{driver.hypothesis(self._champion)}",
            )
        if driver.availability.down and not self._down:
            self._post(run, "models_down", "no language model answers; the search goes on without them")
        self._down = driver.availability.down
        patience = max(20, 5 * driver.cluster.slots)
        if state.since_best >= patience and not self._stalled:
            self._stalled = True
            self._post(run, "stall", f"{state.since_best} births without a better best")

    def end(self, run: str, text: str) -> str | None:
        """Post the end, wait for what is under way, and return a line about the first failure, if there was one."""
        self._post(run, "end", text)
        if self._pool is None:
            return None
        self._pool.shutdown(wait=True)
        return next((failure for post in self._posts if (failure := post.result())), None)

    def _post(self, run: str, event: str, text: str) -> None:
        if self._pool is not None and self._url is not None:
            self._posts.append(self._pool.submit(_post, self._url, {"run": run, "event": event, "text": text}))


def _post(url: str, message: dict[str, str]) -> str | None:
    body = json.dumps(message).encode()
    try:
        request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"}, method="POST")
        urllib.request.urlopen(request, timeout=_SECONDS).close()
    except (OSError, ValueError, HTTPException) as error:  # URLError is an OSError
        return f"notify: {url} could not be told of {message['event']!r} ({error})"
    return None
