"""Orders to a live run and what it tells: real files, a real HTTP server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from scripted import SEED_SOURCE, ScriptedCluster

from autoresearch_ray.cli import controls
from autoresearch_ray.cli.controls import Controls, Order
from autoresearch_ray.cli.notify import Teller
from autoresearch_ray.config import Config
from autoresearch_ray.errors import RunError
from autoresearch_ray.evolution.driver import Driver
from autoresearch_ray.lineage.schema import Origin
from autoresearch_ray.lineage.store import LineageStore


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    with LineageStore.create(tmp_path / "mar5", "mar5") as store:
        config = Config(max_experiments=40, population_size=6, num_islands=2)
        made = Driver(config, ScriptedCluster(), store, Origin("mar5"))
        made.begin(SEED_SOURCE)
        yield made


def obey(driver: Driver) -> list[str]:
    return list(Controls(driver.lineage.folder).obey(driver))


def test_orders_are_carried_out_in_the_order_in_which_they_came(driver: Driver) -> None:
    folder = driver.lineage.folder
    source = SEED_SOURCE.replace("LR = 0.5", "LR = 0.2")
    controls.send(folder, Order("resize", population_size=10))
    controls.send(folder, Order("add", source=source, hypothesis="lower"))
    controls.send(folder, Order("stop"))
    controls.send(folder, Order("add", source=source, hypothesis="too late"))
    answers = obey(driver)
    assert driver.population_size == 10
    assert "10 members" in answers[0]
    assert answers[1].startswith("added ")
    assert "stopping" in answers[2]
    assert answers[3].startswith("refused: nothing more may be started")
    assert obey(driver) == []


def test_an_order_that_cannot_be_carried_out_is_answered_and_goes_away(driver: Driver) -> None:
    box = driver.lineage.folder / controls.FOLDER
    controls.send(driver.lineage.folder, Order("resize", population_size=1))
    (box / "99999999999999999999-1.json").write_text("{")
    answers = obey(driver)
    assert "must be at least 2" in answers[0]
    assert "cannot be read" in answers[1]
    assert obey(driver) == []
    assert driver.population_size == 6


def test_a_stop_that_came_too_late_does_not_end_the_next_sitting_at_once(driver: Driver) -> None:
    folder = driver.lineage.folder
    controls.send(folder, Order("stop"))
    controls.send(folder, Order("resize", population_size=10))
    (folder / controls.FOLDER / "99999999999999999999-1.json").write_text("[]")
    controls.forget_stops(folder)
    assert "10 members" in obey(driver)[0]
    assert driver.stop is None


def test_nobody_reads_the_orders_of_a_run_that_has_ended(tmp_path: Path) -> None:
    LineageStore.create(tmp_path / "mar5", "mar5").close()
    with pytest.raises(RunError, match="resume mar5"):
        controls.send(tmp_path / "mar5", Order("stop"))


def test_a_live_run_is_asked_at_most_once_a_second(driver: Driver) -> None:
    asked = Controls(driver.lineage.folder)
    assert list(asked.obey(driver)) == []
    controls.send(driver.lineage.folder, Order("stop"))
    assert list(asked.obey(driver)) == []
    assert driver.stop is None


@pytest.fixture
def posts() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that keeps what is posted."""
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", got
    server.shutdown()
    server.server_close()


def test_a_new_best_a_stall_and_the_end_are_told(driver: Driver, posts: tuple[str, list[dict[str, Any]]]) -> None:
    url, got = posts
    teller = Teller(url)
    driver.watch = teller.look
    driver.run()
    driver.state.since_best = 1000
    teller.look(driver)
    teller.look(driver)
    assert teller.end("mar5", "the run is finished") is None
    events = [post["event"] for post in got]
    assert events[-1] == "end"
    assert events.count("stall") == 1
    assert events.count("best") >= 2
    assert all(post["run"] == "mar5" for post in got)
    assert "unconfirmed" in got[0]["text"]


def test_models_that_are_down_are_told_once(driver: Driver, posts: tuple[str, list[dict[str, Any]]]) -> None:
    url, got = posts
    teller = Teller(url)
    for _ in range(5):
        driver.availability.answered(False, 0.0)
    teller.look(driver)
    teller.look(driver)
    teller.end("mar5", "")
    assert [post["event"] for post in got] == ["models_down", "end"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://127.0.0.1:9/with a space", "http://[broken/"])
def test_a_url_that_does_not_answer_holds_nothing_up_and_is_reported(driver: Driver, url: str) -> None:
    teller = Teller(url)
    driver.watch = teller.look
    driver.run()
    failure = teller.end("mar5", "")
    assert failure is not None
    assert "could not be told" in failure
