"""Downloads against a real HTTP server on this machine that misbehaves as it is told."""

from __future__ import annotations

import http.server
import io
import json
import re
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


def shard(number: int, column: str = "text") -> bytes:
    rng = np.random.default_rng(number)
    words = np.array(["apple", "river", "stone", "cloud", "music"])
    texts = [f"{number}-{i} " + " ".join(rng.choice(words, 60)) for i in range(200)]
    buffer = io.BytesIO()
    pq.write_table(pa.table({column: texts}), buffer)
    return buffer.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`; each request of a file takes the next of its `server.faults`, if there is one left."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[1]
        span = self.headers.get("Range")
        self.server.requests.append((name, span))
        fault = self.server.faults[name].popleft() if self.server.faults[name] else "none"
        content = self.server.files.get(name)
        self.close_connection = True
        if content is None:
            self._answer(404, b"")
        elif fault == "unavailable":
            self._answer(503, b"")
        elif fault == "short":  # what a proxy with a truncated copy serves
            self._answer(200, content[: len(content) // 2])
        elif fault == "corrupt":
            self._answer(200, bytes(len(content)))
        elif fault == "no length":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)
        elif fault == "hang up":
            return
        else:
            self._serve(content, span if fault != "ignore range" else None, fault)

    def _serve(self, content: bytes, span: str | None, fault: str) -> None:
        start = int(re.fullmatch(r"bytes=(\d+)-", span)[1]) if span else 0  # type: ignore[index]
        if start >= len(content) and span:
            self._answer(416, b"")
            return
        self.send_response(206 if span else 200)
        if span:
            first = start + (7 if fault == "wrong place" else 0)
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = start + (len(content) - start) // 2 if fault == "cut" else len(content)
        self.wfile.write(content[start:end])

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Server(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: defaultdict[str, deque[str]] = defaultdict(deque)
        self.requests: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/main"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


NAME = "shard_00000.parquet"


def fetch(prepare: ModuleType, server: Server, folder: Path) -> Path:
    prepare.download_all([folder / NAME], server.url, pause=0.001)
    return folder / NAME


@pytest.mark.parametrize(
    ("faults", "requests"),
    [
        ([], 1),
        (["cut"], 2),
        (["cut", "cut", "cut"], 4),
        (["hang up", "unavailable", "cut"], 4),
        (["cut", "ignore range"], 2),
        (["cut", "wrong place"], 3),
        (["cut", "corrupt"], 3),
        (["short"], 2),
        (["corrupt"], 2),
        (["no length"], 1),
        (["short", "corrupt", "cut", "unavailable", "cut"], 6),
    ],
)
def test_faults_are_survived(
    prepare: ModuleType, server: Server, tmp_path: Path, faults: list[str], requests: int
) -> None:
    server.files[NAME] = shard(0)
    server.faults[NAME] = deque(faults)
    assert fetch(prepare, server, tmp_path).read_bytes() == server.files[NAME]
    assert len(server.requests) == requests
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_cut_download_goes_on_where_it_ended(prepare: ModuleType, server: Server, tmp_path: Path) -> None:
    server.files[NAME] = content = shard(0)
    server.faults[NAME] = deque(["cut", "cut"])
    fetch(prepare, server, tmp_path)
    half, rest = len(content) // 2, len(content) - len(content) // 2
    assert [span for _, span in server.requests] == [None, f"bytes={half}-", f"bytes={half + rest // 2}-"]


def test_a_partial_file_of_an_earlier_try_is_resumed(prepare: ModuleType, server: Server, tmp_path: Path) -> None:
    server.files[NAME] = content = shard(0)
    (tmp_path / NAME).with_suffix(".part").write_bytes(content[:1000])
    assert fetch(prepare, server, tmp_path).read_bytes() == content
    assert server.requests == [(NAME, "bytes=1000-")]


@pytest.mark.parametrize("partial", ["whole", "too long", "of something else"])
def test_a_strange_partial_file_is_got_over(prepare: ModuleType, server: Server, tmp_path: Path, partial: str) -> None:
    server.files[NAME] = content = shard(0)
    other = {"whole": content, "too long": content + b"x" * 10, "of something else": bytes(500)}[partial]
    (tmp_path / NAME).with_suffix(".part").write_bytes(other)
    assert fetch(prepare, server, tmp_path).read_bytes() == content


@pytest.mark.parametrize("damage", [slice(0, 3000), slice(0, 0)])
def test_a_damaged_shard_on_disk_is_fetched_again(
    prepare: ModuleType, server: Server, tmp_path: Path, damage: slice
) -> None:
    server.files[NAME] = content = shard(0)
    (tmp_path / NAME).write_bytes(content[damage])
    assert fetch(prepare, server, tmp_path).read_bytes() == content


def test_a_whole_shard_is_not_fetched_again(prepare: ModuleType, server: Server, tmp_path: Path) -> None:
    server.files[NAME] = shard(0)
    fetch(prepare, server, tmp_path)
    fetch(prepare, server, tmp_path)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("faults", "content", "sentence", "requests"),
    [
        ([], None, "answered 404", 1),
        (["unavailable"] * 20, shard(0), "after 6 attempts: the server answered 503", 6),
        (["corrupt"] * 20, shard(0), "not a whole Parquet file with a column 'text'", 6),
        (["short"] * 20, shard(0), "not a whole Parquet file", 6),
        ([], shard(0, column="body"), "with a column 'text'", 6),
    ],
)
def test_what_cannot_be_fetched_gets_a_sentence(
    prepare: ModuleType,
    server: Server,
    tmp_path: Path,
    faults: list[str],
    content: bytes | None,
    sentence: str,
    requests: int,
) -> None:
    if content is not None:
        server.files[NAME] = content
    server.faults[NAME] = deque(faults)
    with pytest.raises(prepare.PrepareError, match=f"Could not download {server.url}/{NAME} .*{sentence}"):
        fetch(prepare, server, tmp_path)
    assert len(server.requests) == requests
    assert not (tmp_path / NAME).exists()


def test_no_server_gets_a_sentence(prepare: ModuleType, server: Server, tmp_path: Path) -> None:
    server.server_close()
    with pytest.raises(prepare.PrepareError, match=r"Could not download .*refused"):
        fetch(prepare, server, tmp_path)


def test_the_last_shards_are_scored_on_and_never_trained_on(
    prepare: ModuleType, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prepare, "LAST_SHARD", 3)
    server.files = {f"shard_{i:05d}.parquet": shard(i) for i in range(4)}
    server.faults["shard_00001.parquet"] = deque(["cut"])
    monkeypatch.setattr(prepare, "ATTEMPTS", 2)
    options = ["--corpus=climbmix", "--tokenizer=byte", "--sequence-length=64", "--shards=3", "--json"]
    assert prepare.main([*options, f"--base-url={server.url}/"]) == 0
    folder = Path(json.loads(capsys.readouterr().out)["folder"])
    meta = json.loads((folder / "meta.json").read_text())
    shards = {}
    for split in ("train", "val", "holdout"):
        rows = np.fromfile(folder / f"{split}.bin", dtype=np.uint16).reshape(meta["rows"][split], 65)
        text = bytes(rows[rows != 256].astype(np.uint8)).decode()
        shards[split] = set(re.findall(r"(\d)-\d+ ", text))
    assert shards == {"train": {"0", "1"}, "holdout": {"2"}, "val": {"3"}}
    asked = len(server.requests)
    assert prepare.main([*options, f"--base-url={server.url}"]) == 0
    assert json.loads(capsys.readouterr().out)["made"] is False
    assert len(server.requests) == asked == 5
