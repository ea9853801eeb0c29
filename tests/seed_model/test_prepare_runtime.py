"""The half that train.py imports: batches, clock and score, alone and at the end of a channel."""

from __future__ import annotations

import itertools
import json
import math
import mmap
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from autoresearch_ray.training import protocol
from autoresearch_ray.training.data import TrainingOrder

T, V = 32, 257


class Bigram(torch.nn.Module):
    """Logits from the last token alone."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(V, V)
        with torch.no_grad():
            self.table.weight.normal_(0, 2, generator=torch.Generator().manual_seed(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table(x)


@pytest.fixture
def folder(prepare: ModuleType, texts: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTORESEARCH_DEVICE", "cpu")
    monkeypatch.setenv("AUTORESEARCH_TRAIN_SECONDS", "0.2")
    made: Path = prepare.prepare(prepare.Settings(str(texts), "byte", 257, T, 2048, 2048))[0]
    return made


def rows(folder: Path, split: str) -> np.ndarray:
    return np.fromfile(folder / f"{split}.bin", dtype=np.uint16).reshape(-1, T + 1)


def plain_bits_per_byte(tokens: np.ndarray) -> float:
    """The score by the textbook, in float64, one token at a time."""
    table = Bigram().table.weight.detach().numpy().astype(np.float64)
    nats, size = 0.0, 0
    for row in tokens.tolist():
        for now, after in itertools.pairwise(row):
            if after != 256:
                nats += math.log(np.exp(table[now]).sum()) - table[now, after]
                size += 1
    return nats / math.log(2) / size


# --- alone -----------------------------------------------------------------------------------------------------------


def test_constants_come_from_the_folder_and_the_environment(
    prepare: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTORESEARCH_SEED", "7")
    names = ("MAX_SEQ_LEN", "VOCAB_SIZE", "SEED", "DEVICE", "TIME_BUDGET")
    assert [getattr(prepare, name) for name in names] == [T, V, 7, "cpu", 0.2]
    with pytest.raises(AttributeError, match="no attribute 'TARGETS'"):
        _ = prepare.TARGETS


def test_without_prepared_data_there_is_a_sentence(prepare: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(prepare.PrepareError, match=r"run `python seed_model/prepare.py` first"):
        _ = prepare.MAX_SEQ_LEN
    monkeypatch.setenv("AUTORESEARCH_DATA", "/no/such/folder")
    with pytest.raises(prepare.PrepareError, match="/no/such/folder"):
        _ = prepare.MAX_SEQ_LEN


def test_batches_are_shifted_rows_until_the_time_is_up(prepare: ModuleType, folder: Path) -> None:
    loader = prepare.make_dataloader(4, T)
    known = {row.tobytes() for row in rows(folder, "train")}
    progress = []
    for x, y in loader:
        assert x.shape == y.shape == (4, T)
        assert x.dtype == y.dtype == torch.int64
        assert torch.equal(x[:, 1:], y[:, :-1])
        whole = torch.cat([x, y[:, -1:]], dim=1).numpy().astype(np.uint16)
        assert all(row.tobytes() in known for row in whole)
        progress.append(loader.progress)
    assert progress == sorted(progress)
    assert progress[0] == 0.0
    assert progress[-1] < 1.0
    assert loader.progress == 1.0
    assert list(loader) == []


@pytest.mark.parametrize(("batch", "length"), [(4, T), (7, T), (1000, T), (5, 10), (3, 1)])
def test_data_order_is_the_supervisors(
    prepare: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, batch: int, length: int
) -> None:
    monkeypatch.setenv("AUTORESEARCH_SEED", "11")
    monkeypatch.setenv("AUTORESEARCH_TRAIN_SECONDS", "1000")
    order = TrainingOrder(rows(folder, "train"), 11)
    loader = prepare.make_dataloader(batch, length)
    for _ in range(8):
        x, y = next(loader)
        expected = order.draw(batch, length).astype(np.int64)
        assert np.array_equal(x.numpy(), expected[:, :-1])
        assert np.array_equal(y.numpy(), expected[:, 1:])


def test_a_seed_changes_the_order(prepare: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def first(seed: str) -> np.ndarray:
        monkeypatch.setenv("AUTORESEARCH_SEED", seed)
        monkeypatch.setattr(prepare, "_source", None)
        batch: np.ndarray = next(prepare.make_dataloader(8, T))[0].numpy()
        return batch

    assert np.array_equal(first("1"), first("1"))
    assert not np.array_equal(first("1"), first("2"))


def test_an_impossible_batch_is_refused(prepare: ModuleType, folder: Path) -> None:
    with pytest.raises(RuntimeError, match="T is at most 32"):
        next(prepare.make_dataloader(1, T + 1))


@pytest.mark.parametrize("logits_at_once", [1 << 24, T * V, 3 * T * V])
def test_the_score_is_the_textbooks(
    prepare: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, logits_at_once: int
) -> None:
    monkeypatch.setattr(prepare, "SCORED_LOGITS", {"cpu": logits_at_once})
    tokens = rows(folder, "val")
    tokens[::3, 9] = 256  # BOS is not scored as a target
    tokens.tofile(folder / "val.bin")
    expected = plain_bits_per_byte(rows(folder, "val"))
    assert prepare.evaluate_bpb(Bigram()) == pytest.approx(expected, rel=1e-6)


def test_bytes_of_a_token_count_not_tokens(prepare: ModuleType, folder: Path) -> None:
    sizes = np.load(folder / "token_bytes.npy")
    np.save(folder / "token_bytes.npy", sizes * 3)
    assert prepare.evaluate_bpb(Bigram()) == pytest.approx(plain_bits_per_byte(rows(folder, "val")) / 3, rel=1e-6)


def test_wrong_or_infinite_logits_are_refused(prepare: ModuleType, folder: Path) -> None:
    model = Bigram()
    with torch.no_grad():
        model.table.weight[256, 0] = math.nan
    with pytest.raises(RuntimeError, match="non-finite logits"):
        prepare.evaluate_bpb(model)
    narrow = torch.nn.Embedding(V, V - 1)
    with pytest.raises(RuntimeError, match=r"expected \(\d+, 32, 257\)"):
        prepare.evaluate_bpb(narrow)


# --- at the end of a channel -----------------------------------------------------------------------------------------


class FakeSupervisor(threading.Thread):
    """Answers as the contract says, with rows of its own, and keeps every message."""

    def __init__(self, tokens: np.ndarray, batches: int, seed: int = 5) -> None:
        super().__init__()
        self.tokens, self.batches, self.seed = tokens, batches, seed
        self.ours, self.theirs = socket.socketpair()
        self.region = 16 * (T + 1) * 2
        self.logits_region = 4 * T * V * 4
        self.data_fd, self.logits_fd = os.memfd_create("data"), os.memfd_create("logits")
        os.ftruncate(self.data_fd, 2 * self.region)
        os.ftruncate(self.logits_fd, 2 * self.logits_region)
        self.data = mmap.mmap(self.data_fd, 2 * self.region)
        self.logits = mmap.mmap(self.logits_fd, 2 * self.logits_region)
        self.messages: list[dict[str, Any]] = []
        self.served: list[np.ndarray] = []
        self.scored = np.empty((0, T, V), dtype=np.float32)
        self.refuse: str | None = None

    def run(self) -> None:
        with self.ours, self.ours.makefile("rwb") as stream:
            for line in stream:
                protocol.parse(line.rstrip(b"\n"))  # raises if the real supervisor would not accept it
                self.messages.append(json.loads(line))
                stream.write(json.dumps(self.answer(self.messages[-1])).encode() + b"\n")
                stream.flush()

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        if self.refuse and message["op"] != "hello":
            return {"error": self.refuse}
        return {"hello": self._hello, "batch": self._batch, "evaluate": self._rows, "logits": self._take}[
            message["op"]
        ](message)

    def _hello(self, _: dict[str, Any]) -> dict[str, Any]:
        return {
            **{"sequence_length": T, "vocab_size": V, "bos_token": 256, "seed": self.seed, "device": "cpu"},
            **{"threads": torch.get_num_threads(), "train_seconds": 3.5},
            **{"data_fd": self.data_fd, "data_bytes": 2 * self.region},
            **{"logits_fd": self.logits_fd, "logits_bytes": 2 * self.logits_region},
        }

    def _batch(self, message: dict[str, Any]) -> dict[str, Any]:
        number = len(self.served)
        if number == self.batches:
            return {"end": True, "progress": 1.0}
        B, length = message["batch"], message["length"]
        batch = np.full((B, length + 1), number, dtype=np.uint16)
        self.served.append(batch)
        offset = number % 2 * self.region
        self.data[offset : offset + batch.nbytes] = batch.tobytes()
        return {"offset": offset, "progress": number / self.batches}

    def _rows(self, _: dict[str, Any]) -> dict[str, Any]:
        self.sent = 0
        return self._next_rows()

    def _next_rows(self) -> dict[str, Any]:
        number = self.sent // 4
        some = self.tokens[self.sent : self.sent + 4]
        if not len(some):
            return {"val_bpb": 1.25}
        self.sent += len(some)
        inputs = np.ascontiguousarray(some[:, :-1])
        offset = number % 2 * self.region
        self.data[offset : offset + inputs.nbytes] = inputs.tobytes()
        self.pending = (number % 2 * self.logits_region, len(some))
        return {"rows": len(some), "offset": offset, "logits_offset": self.pending[0], "length": T}

    def _take(self, _: dict[str, Any]) -> dict[str, Any]:
        start, n = self.pending
        got = np.frombuffer(self.logits, dtype=np.float32, count=n * T * V, offset=start).reshape(n, T, V)
        self.scored = np.concatenate([self.scored, got])
        return self._next_rows()


@pytest.fixture
def tokens(folder: Path) -> np.ndarray:
    return rows(folder, "val")[:10]


@pytest.fixture
def supervisor(prepare: ModuleType, tokens: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSupervisor]:
    """A supervisor that the module is not yet connected to; it ends when the module lets the channel go."""
    fake = FakeSupervisor(tokens, batches=5)
    monkeypatch.setenv("AUTORESEARCH_CHANNEL", str(fake.theirs.fileno()))
    monkeypatch.setenv("AUTORESEARCH_DATA", "/nothing/may/be/read/here")
    fake.start()
    yield fake
    fake.theirs.shutdown(socket.SHUT_RDWR)
    fake.join()
    fake.theirs.close()


def test_hello_gives_the_constants(prepare: ModuleType, supervisor: FakeSupervisor) -> None:
    assert (prepare.MAX_SEQ_LEN, prepare.VOCAB_SIZE, prepare.SEED) == (T, V, 5)
    assert (prepare.DEVICE, prepare.TIME_BUDGET) == ("cpu", 3.5)
    assert supervisor.messages == [{"op": "hello"}]


def test_the_next_batch_is_asked_for_before_one_is_handed_out(prepare: ModuleType, supervisor: FakeSupervisor) -> None:
    loader = prepare.make_dataloader(3, 20)
    handed_out = []
    for number, (x, y) in enumerate(loader):
        handed_out.append((x, y))
        assert loader.progress == number / 5
        loader.report(float(number) if number < 2 else math.inf)
    assert [(int(x[0, 0]), int(y[-1, -1])) for x, y in handed_out] == [(n, n) for n in range(5)]
    assert all((x == n).all() and x.shape == (3, 20) for n, (x, _) in enumerate(handed_out)), "a batch was overwritten"
    asked = [message for message in supervisor.messages if message["op"] == "batch"]
    assert asked[0] == {"op": "batch", "batch": 3, "length": 20, "loss": None}
    # The request for batch n + 1 goes out while batch n - 1 is trained on, so the first loss travels with the third.
    assert [message["loss"] for message in asked] == [None, None, 0.0, 1.0, math.inf, math.inf]
    assert loader.progress == 1.0
    assert list(loader) == []
    assert len([message for message in supervisor.messages if message["op"] == "batch"]) == 6


def test_logits_go_through_shared_memory(prepare: ModuleType, supervisor: FakeSupervisor, tokens: np.ndarray) -> None:
    model = Bigram()
    assert prepare.evaluate_bpb(model) == 1.25
    evaluate = next(message for message in supervisor.messages if message["op"] == "evaluate")
    assert evaluate == {"op": "evaluate", "parameters": V * V, "peak_memory_bytes": None, "dtype": "float32"}
    expected = model(torch.from_numpy(tokens[:, :-1].astype(np.int64))).detach().numpy()
    assert np.array_equal(supervisor.scored, expected)
    assert not model.training


def test_a_refusal_raises_its_reason(prepare: ModuleType, supervisor: FakeSupervisor) -> None:
    supervisor.refuse = "a batch of 3 x 99 does not fit"
    with pytest.raises(RuntimeError, match="refused: a batch of 3 x 99 does not fit"):
        next(prepare.make_dataloader(3, 99))


def test_a_supervisor_that_is_gone_raises(prepare: ModuleType, supervisor: FakeSupervisor) -> None:
    assert prepare.SEED == 5
    supervisor.ours.shutdown(socket.SHUT_RDWR)
    with pytest.raises((RuntimeError, OSError)):
        next(prepare.make_dataloader(3, T))


def test_importing_reads_no_data_and_is_light(prepare: ModuleType) -> None:
    code = "import sys, prepare; print(sorted({'torch', 'pyarrow', 'tiktoken', 'rustbpe'} & set(sys.modules)))"
    script = Path(prepare.__file__)
    environment = os.environ | {"PYTHONPATH": str(script.parent), "AUTORESEARCH_CHANNEL": "99"}
    output = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert output.stdout.strip() == "[]"
