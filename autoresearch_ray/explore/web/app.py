"""The page's addresses and what each answers. All of them read; none takes a path of a file.

Does not own who may ask (guard.py), the run (board.py) or what is said of it (details.py, points.py, progress.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from autoresearch_ray.errors import AutoresearchError, UsageError
from autoresearch_ray.explore import snapshot
from autoresearch_ray.explore.standing import standing
from autoresearch_ray.explore.tree import Filters, node
from autoresearch_ray.explore.web import details, points, progress, runs
from autoresearch_ray.explore.web.board import Board
from autoresearch_ray.explore.web.guard import Guard
from autoresearch_ray.lineage import finding
from autoresearch_ray.lineage.query import Lineage

STATIC = Path(__file__).parent / "static"
VIEWS = ("progress", "tree", "compare", "ideas", "now")
LOOK_SECONDS = 1.0
MOST_BRIEFS = 100
MOST_WORDS = 200

Answer = Callable[[Request], Any]


def make(board: Board, host: str, token: str | None) -> ASGIApp:
    """Return the application that shows a run.

    Args:
        board: the run.
        host: the address it will be bound to.
        token: what visitors must show; None on loopback.
    """
    page = Page(board)
    answers: dict[str, Answer] = {
        "run": page.run,
        "variant/{identity}": page.variant,
        "variant/{identity}/source": page.source,
        "briefs": page.briefs,
        "search": page.search,
        "ideas": page.ideas,
        "compare": page.compare,
        "runs": page.runs,
        "runs/{name}": page.runs_compared,
        "now": page.now,
        "happenings": page.happenings,
    }
    routes = [
        *(Route(f"/api/{path}", _json(answer)) for path, answer in answers.items()),
        Route("/api/points", page.points),
        Route("/api/progress", page.progress),
        Route("/api/events", page.events),
        Route("/static/{name}", _Files()),
        *(Route(path, _index) for path in ("/", *(f"/{view}" for view in VIEWS), "/variant/{identity}")),
    ]
    return Guard(Starlette(routes=routes, lifespan=page.lifespan), host, token)


class Page:
    """Answers requests from a board."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._closing = asyncio.Event()

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Look for news for as long as the page is served."""
        looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            self._closing.set()
            looking.cancel()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            with contextlib.suppress(AutoresearchError):  # a run that is just being moved: the next look will tell
                await run_in_threadpool(self._board.look_again)

    # ------------------------------------------------------------------------------------------------------- one run

    def run(self, _: Request) -> dict[str, Any]:
        """Say what the run is and how it stands."""
        return self._board.kept("run", _overview) | {"live": self._board.live, "version": self._board.version}

    def points(self, _: Request) -> Response:
        """Give all births as columns."""
        response = _bytes(self._board.kept("points", points.pack))
        response.background = BackgroundTask(self._board.kept, "warm", _first_click)
        return response

    def progress(self, _: Request) -> Response:
        """Give all experiments as columns."""
        return _bytes(self._board.kept("progress", progress.pack))

    def now(self, _: Request) -> dict[str, Any]:
        """Say what the slots of a live run do, and what is spent and left."""
        taken = snapshot.read(self._board.folder)
        live = self._board.live
        if taken.state in ("running", "draining") and not live:
            taken = snapshot.interrupted(taken)
        return {**dataclasses.asdict(taken), "live": live}

    def happenings(self, _: Request) -> list[dict[str, Any]]:
        """Say what happened last."""
        return details.happenings(self._board.lineage)

    async def events(self, request: Request) -> Response:
        """Tell the browser when there is something new (server-sent events)."""
        return StreamingResponse(
            self._news(request), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
        )

    async def _news(self, request: Request) -> AsyncIterator[str]:
        told: tuple[int, int] | None = None
        quiet = 0.0
        while not self._closing.is_set() and not await request.is_disconnected():
            known = (self._board.version, self._board.live_stamp())
            if known != told:
                told, quiet = known, 0.0
                yield f"data: {json.dumps({'version': known[0], 'now': known[1], 'live': self._board.live})}\n\n"
            elif quiet > 15:
                quiet = 0.0
                yield ": still here\n\n"
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._closing.wait(), LOOK_SECONDS / 2)
            quiet += LOOK_SECONDS / 2

    # ------------------------------------------------------------------------------------------------------ variants

    def variant(self, request: Request) -> dict[str, Any]:
        """Say everything about a variant."""
        lineage = self._board.lineage
        return details.variant(lineage, lineage.find(request.path_params["identity"]))

    def source(self, request: Request) -> dict[str, Any]:
        """Give a variant's source and its differences from its parents'."""
        lineage = self._board.lineage
        return details.source(lineage, lineage.find(request.path_params["identity"]))

    def briefs(self, request: Request) -> list[dict[str, Any]]:
        """Say in short what some variants are, by position."""
        lineage = self._board.lineage
        asked = [number for number in _numbers(request, "at")[:MOST_BRIEFS] if number < len(lineage)]
        return [node(lineage, position) for position in asked]

    def search(self, request: Request) -> dict[str, Any]:
        """Say which births say the words, by position."""
        lineage = self._board.lineage
        found = details.matching(lineage, Filters(), request.query_params.get("q", "")[:MOST_WORDS])
        return {"positions": [int(place) for place in found.nonzero()[0]]}

    def ideas(self, request: Request) -> dict[str, Any]:
        """Give a page of the sortable table of births."""
        lineage, asked = self._board.lineage, request.query_params
        facts = self._board.kept("sortable", details.sortable)
        sort = asked.get("sort", "gain")
        if sort not in facts:
            raise UsageError(f"there is no column {sort!r} to sort by: there are {', '.join(facts)}.")
        wanted = details.matching(lineage, _filters(request), asked.get("q", "")[:MOST_WORDS])
        skip = next(iter(_numbers(request, "skip")), 0)
        return details.ideas(lineage, facts, wanted, sort=sort, descending=asked.get("order") != "up", skip=skip)

    def compare(self, request: Request) -> dict[str, Any]:
        """Set some variants beside each other."""
        lineage = self._board.lineage
        names = [name for name in request.query_params.get("ids", "").split(",") if name]
        return details.compare(lineage, [lineage.find(name) for name in names[: details.MOST_COMPARED]])

    # ---------------------------------------------------------------------------------------------------- other runs

    def runs(self, _: Request) -> list[str]:
        """Name the runs that lie beside this one."""
        return [folder.name for folder in self._neighbours()]

    def runs_compared(self, request: Request) -> dict[str, Any]:
        """Set this run beside another one of the same storage folder."""
        name = request.path_params["name"]
        folder = next((folder for folder in self._neighbours() if folder.name == name), None)
        if folder is None:
            raise UsageError(f"there is no other run {name!r} beside this one.")
        other = self._board.kept(f"other run {name}", lambda _: Lineage.open(folder))
        return runs.compare(self._board.lineage, other)

    def _neighbours(self) -> list[Path]:
        own = self._board.folder.resolve()
        return [folder for folder in finding.runs(own.parent) if folder.resolve() != own]


def _overview(lineage: Lineage) -> dict[str, Any]:
    leader, seed, best = lineage.leader, lineage.seed, standing(lineage)
    return {
        "run": lineage.tables.run,
        "metric": lineage.metric,
        "lower_is_better": lineage.lower_is_better,
        "births": len(lineage),
        "experiments": lineage.trainings,
        "carried": lineage.carried,
        "statuses": dict(Counter(lineage.statuses)),
        "sigma": lineage.sigma,
        "seed": None if seed is None else node(lineage, seed),
        "leader": None if leader is None else node(lineage, leader),
        "confirmed": lineage.champion is not None,
        "score": None if best is None or best.score is None else asdict(best.score),
        "gain": None if best is None else best.gain,
        "gain_error": None if best is None else best.gain_error,
        "usd": sum(usd or 0.0 for usd in lineage.column("llm_usd")),
        "classes": lineage.tables.variants["class"].unique().to_pylist(),
        "unverified": any(
            verified is False for verified in lineage.tables.experiments["verified"].unique().to_pylist()
        ),
        "damage": list(lineage.tables.damage),
    }


def _first_click(lineage: Lineage) -> None:
    """Work out what is derived once for all variants, so that who clicks first waits no longer than others."""
    if lineage.leader is not None:
        node(lineage, lineage.leader)
        lineage.descendants(lineage.find(lineage.ids[lineage.leader]))


def _filters(request: Request) -> Filters:
    asked = request.query_params
    generations = _numbers(request, "generation", "-")
    return Filters(
        island=next(iter(_numbers(request, "island")), None),
        operator=asked.get("operator") or None,
        status=asked.get("status") or None,
        model=asked.get("model") or None,
        generation=(generations[0], generations[-1]) if generations else None,
    )


def _numbers(request: Request, name: str, separator: str = ",") -> list[int]:
    words = request.query_params.get(name, "")
    try:
        return [int(word) for word in words.split(separator) if word and int(word) >= 0]
    except ValueError:
        raise UsageError(f"{name}={words[:40]}: expected whole numbers.") from None


class _Files:
    """Answers with the page's own files, read once: no name leads to another file."""

    def __init__(self) -> None:
        self._files = {path.name: path.read_bytes() for path in STATIC.iterdir() if path.suffix in _MEDIA}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path_params"]["name"]
        content = self._files.get(name)
        media = _MEDIA.get(Path(name).suffix)
        response = Response(status_code=404) if content is None else Response(content, media_type=media)
        # Browsers ask for the icon again with every address; scripts must be those of the server that answers.
        response.headers["Cache-Control"] = "max-age=3600" if media == _MEDIA[".svg"] else "no-cache"
        await response(scope, receive, send)


_MEDIA = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


async def _index(_: Request) -> Response:
    return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})


def _bytes(content: bytes) -> Response:
    return Response(content, media_type="application/octet-stream")


def _json(answer: Answer) -> Callable[[Request], Response]:
    def respond(request: Request) -> Response:
        try:
            content, status = answer(request), 200
        except AutoresearchError as error:
            content, status = {"error": str(error)}, 404
        text = json.dumps(_plain(content), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        return Response(text.encode("utf-8", "replace"), status, media_type="application/json")

    return respond


def _plain(value: Any) -> Any:
    """Return plain JSON values; a number that is not finite becomes null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value.isoformat() if isinstance(value, datetime) else value
