import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import hostile
import pytest
import synthetic
from starlette.testclient import TestClient

from autoresearch_ray.explore import snapshot
from autoresearch_ray.explore.web import app, details
from autoresearch_ray.explore.web.board import Board
from autoresearch_ray.lineage import schema
from autoresearch_ray.lineage.sealing import Sealing
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Status


def visit(folder: Path) -> TestClient:
    return TestClient(app.make(Board(folder), "127.0.0.1", None), base_url="http://127.0.0.1")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = synthetic.make(tmp_path_factory.mktemp("runs") / "nov24", 100)
    synthetic.make(folder.parent / "nov25", 60, seed=5)
    with visit(folder) as client:
        yield client


@pytest.mark.parametrize(
    "path", ["/", "/progress", "/tree", "/compare", "/ideas", "/now", "/variant/best", "/tree?v=best"]
)
def test_every_view_is_an_address_of_its_own(page: TestClient, path: str) -> None:
    answer = page.get(path)
    assert answer.status_code == 200
    assert "/static/main.js" in answer.text


def test_the_page_holds_nothing_inline_and_nothing_remote() -> None:
    for file in app.STATIC.iterdir():
        words = file.read_text(encoding="utf-8")
        found = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'`]*", words)) if file.suffix != ".js" else set()
        assert found <= {"http://www.w3.org/2000/svg"}, file
        assert not re.search(
            r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function)", words
        ), file
    index = (app.STATIC / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)|\bon\w+=|\bstyle=|<style", index)


def test_a_variant_is_told_with_everything(page: TestClient) -> None:
    run = page.get("/api/run").json()
    told = page.get("/api/variant/best").json()
    assert told["variant_id"] in {run["leader"]["variant_id"], told["variant_id"]}
    for key in ("hypothesis", "parents", "experiments", "llm_usd", "sigma", "children_best", "siblings", "descendants"):
        assert key in told
    assert all(parent["curve"] for parent in told["parents"])
    assert {"startup_seconds", "train_seconds", "scoring_seconds", "log_tail"} <= set(told["experiments"][0])
    code = page.get("/api/variant/best/source").json()
    assert code["source"].startswith('"""')
    for diff in code["diffs"]:
        assert {line[0] for line in diff["lines"]} & {"+", "-"}


def test_a_difference_rebuilds_both_sides() -> None:
    before, after = "a\nb\nc\nd\n", "a\nB\nc\nd\ne\n"
    lines = details.difference(before, after)
    assert [text for kind, *_, text in lines if kind in "=-"] == before.splitlines()
    assert [text for kind, *_, text in lines if kind in "=+"] == after.splitlines()
    assert details.difference(before, before) == []


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/api/variant/zzzz", "near ids"),
        ("/api/variant/..%2f..%2fetc%2fpasswd", ""),
        ("/api/ideas?sort=source", "no column"),
        ("/api/ideas?island=x", "whole numbers"),
        ("/api/runs/elsewhere", "no other run"),
        ("/api/runs/%2e%2e%2f%2e%2e", ""),
        ("/api/compare?ids=zzzz", "no variant"),
        ("/api/now", "says nothing"),
        ("/api/elsewhere", ""),
    ],
)
def test_what_is_not_there_is_a_sentence(page: TestClient, path: str, words: str) -> None:
    answer = page.get(path)
    assert answer.status_code == 404
    if words:
        assert words in answer.json()["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2f..%2fsql.py",
        "/static//etc/passwd",
        "/etc/passwd",
        "/lineage/manifest.json",
    ],
)
def test_no_path_leads_out(page: TestClient, path: str) -> None:
    assert page.get(path).status_code == 404


def test_ideas_are_sorted_filtered_and_paged(page: TestClient) -> None:
    first = page.get("/api/ideas?sort=score&order=up").json()["ideas"]
    scores = [idea["val_bpb"] for idea in first if idea["status"] == "completed"]
    assert scores == sorted(scores)
    assert [idea["status"] == "completed" for idea in first] == sorted(
        (i["status"] == "completed" for i in first), reverse=True
    )
    crossed = page.get("/api/ideas?operator=crossover&sort=gain").json()
    assert crossed["found"] == len(crossed["ideas"]) > 0
    assert {idea["operator"] for idea in crossed["ideas"]} == {"crossover"}
    gains = [idea["gain"] for idea in crossed["ideas"] if idea["status"] == "completed"]
    assert gains == sorted(gains, reverse=True)
    assert page.get("/api/ideas?skip=98").json()["skipped"] == 98
    assert len(page.get("/api/ideas?skip=98").json()["ideas"]) == 2


def test_search_finds_what_was_said(page: TestClient, run: Path) -> None:
    positions = page.get("/api/search?q=swiglu%20RELU").json()["positions"]
    briefs = page.get(f"/api/briefs?at={','.join(map(str, positions[:100]))}").json()
    assert positions
    assert all("SwiGLU" in brief["hypothesis"] for brief in briefs)
    assert page.get("/api/search?q=nothing-says-this").json()["positions"] == []


def test_two_runs_are_compared_at_equal_budgets(page: TestClient) -> None:
    assert page.get("/api/runs").json() == ["nov25"]
    found = page.get("/api/runs/nov25").json()
    assert found["runs"] == ["nov24", "nov25"]
    assert found["equal"]["births"] == 60
    assert "cannot rank" in found["caution"]
    for curve in found["curves"]:
        means = [mean for mean in curve["means"] if mean is not None]
        assert means == sorted(means, reverse=True)


@pytest.mark.parametrize(("changes", "what"), [({"data_hash": "other"}, "data"), ({"hardware_class": "H100"}, "class")])
def test_runs_of_other_data_or_class_are_not_compared(tmp_path: Path, changes: dict[str, str], what: str) -> None:
    folder = synthetic.make(tmp_path / "runs" / "one", 10)
    evolution = synthetic.Evolution(run="two")
    evolution.origin = schema.Origin(
        "two",
        **({"hardware_class": evolution.origin.hardware_class, "data_hash": evolution.origin.data_hash} | changes),
    )
    with LineageStore.create(tmp_path / "runs" / "two", "two") as store:
        evolution.record(store, 10)
    answer = visit(folder).get("/api/runs/two")
    assert answer.status_code == 404
    assert f"the {what} differs" in answer.json()["error"]


def test_the_page_follows_a_live_run(tmp_path: Path) -> None:
    evolution = synthetic.Evolution(run="live")
    with LineageStore.create(tmp_path / "live", "live", sealing=Sealing(rows=7)) as store:
        evolution.record(store, 10)
        board = Board(tmp_path / "live")
        board._ready_at = 0.0
        client = TestClient(app.make(board, "127.0.0.1", None), base_url="http://127.0.0.1")
        assert client.get("/api/run").json() | {"births": 10, "live": True} == client.get("/api/run").json()
        assert not board.look_again()
        evolution.record(store, 10)
        assert board.look_again()
        told = client.get("/api/run").json()
        assert (told["births"], told["version"], told["live"]) == (20, 1, True)
    assert client.get("/api/run").json()["live"] is False


def test_a_damaged_part_is_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path / "run", 60, sealing=Sealing(rows=20, fanout=100))
    victim = sorted((folder / "lineage" / "variants").iterdir())[0]
    victim.write_bytes(b"nonsense")
    told = visit(folder).get("/api/run").json()
    assert 0 < told["births"] < 60
    assert victim.name in told["damage"][0]


def test_an_empty_run_is_shown(tmp_path: Path) -> None:
    with LineageStore.create(tmp_path / "run", "run"):
        client = visit(tmp_path / "run")
        told = client.get("/api/run").json()
        assert (told["births"], told["leader"], told["seed"]) == (0, None, None)
        for path in ("points", "progress", "ideas", "compare", "search?q=x", "runs"):
            assert client.get(f"/api/{path}").status_code == 200
        assert client.get("/api/variant/best").status_code == 404


def test_hostile_text_is_data(tmp_path: Path) -> None:
    words = f"<script>alert(1)</script>{hostile.TEXT}</script><img src=x onerror=alert(1)>"
    with LineageStore.create(tmp_path / "run", "run") as store:
        born = synthetic.variant(0, run="run", hypothesis=words, source=words)
        store.append("variants", schema.variant_row(synthetic.origin(), born, Status.REJECTED, words))
    client = visit(tmp_path / "run")
    for path in (f"/api/variant/{born.variant_id}", f"/api/variant/{born.variant_id}/source", "/api/ideas", "/api/run"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "<script>alert(1)</script>" in json.dumps(answer.json(), ensure_ascii=False)


def test_nothing_is_written(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "nov24")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with visit(folder) as client:
        for path in (
            "run",
            "points",
            "progress",
            "variant/best",
            "variant/best/source",
            "ideas",
            "compare?ids=seed,best",
            "runs",
            "now",
        ):
            client.get(f"/api/{path}")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_now_shows_the_slots_of_a_live_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with LineageStore.create(folder, "run"):
        activity = snapshot.Activity("a-0", "a", "mutation", "wider", "core 1", "training", 0.62)
        moment = _moment("running", (activity,))
        snapshot.write(moment, folder)
        told = visit(folder).get("/api/now").json()
        assert told["live"] is True
        assert told["activities"][0]["progress"] == 0.62
    told = visit(folder).get("/api/now").json()
    assert (told["live"], told["state"], told["activities"]) == (False, "killed", [])


def test_what_happened_is_told_newest_first(tmp_path: Path) -> None:
    origin = synthetic.origin("run")
    with LineageStore.create(tmp_path / "run", "run") as store:
        for number in range(120):
            store.append("events", schema.event_row(origin, "migration", synthetic.START, number=number, words="<b>"))
    told = visit(tmp_path / "run").get("/api/happenings").json()
    assert [event["details"]["number"] for event in told] == list(range(119, 19, -1))
    assert told[0]["details"]["words"] == "<b>"


def test_a_run_elsewhere_is_looked_at_now_and_then_only(run: Path) -> None:
    looked: list[int] = []
    board = Board(run, lambda: looked.append(1), pause=3600)
    board.look_again()
    assert looked == []
    hasty = Board(run, lambda: looked.append(1))
    hasty.look_again()
    assert looked == [1]


def _moment(state: str, activities: tuple[snapshot.Activity, ...]) -> snapshot.Snapshot:
    values: dict[str, object] = dict.fromkeys(snapshot.Snapshot.__dataclass_fields__)
    values |= {"run": "run", "state": state, "started_at": 0.0, "now": 60.0, "ends": {}, "activities": activities}
    values |= {"births": 1, "experiments": 0, "slots": 2, "metric": "val_bpb", "lower_is_better": True, "usd": 0.0}
    return snapshot.Snapshot(**values)  # type: ignore[arg-type]
