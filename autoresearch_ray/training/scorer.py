"""The trusted process that knows the targets: sends rows, takes logits, computes nats.

Forked from the launcher. Does not own time, nor the channel to the variant: the supervisor passes its messages on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autoresearch_ray.errors import DataError
from autoresearch_ray.training import memory
from autoresearch_ray.training.data import Rows, open_data
from autoresearch_ray.training.wire import Wire, WireClosed

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_LOGITS_A_PIECE = 1 << 22
"""Logits that the loss is computed of at a time; bounds the scorer's memory."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What is scored on: rows (rows, T + 1), bytes of each token (V,), and the device that computes."""

    rows: Rows
    token_bytes: torch.Tensor
    device: str

    @property
    def sequence_length(self) -> int:
        """T."""
        return int(self.rows.shape[1]) - 1

    @property
    def vocab_size(self) -> int:
        """V."""
        return len(self.token_bytes)


@dataclass(frozen=True, slots=True)
class SharedMemory:
    """The two memories that are shared with one variant, as descriptors."""

    data: int
    logits: int
    logits_bytes: int

    def close(self) -> None:
        """Close both."""
        os.close(self.data)
        os.close(self.logits)


class Scoring:
    """The scoring of one model: which rows are sent, and what their logits come to.

    Rows are sent in their order, once. `nats` and `bytes` grow with every batch of logits that is taken.
    """

    def __init__(self, targets: Targets, shared: SharedMemory, dtype: str) -> None:
        self._targets = targets
        self._shared = shared
        T, V = targets.sequence_length, targets.vocab_size
        self._dtype = _DTYPES[dtype]
        fitting = shared.logits_bytes // (T * V * self._dtype.itemsize)
        self._batch = max(1, min(fitting, memory.TOKENS_A_BATCH[targets.device] // T, len(targets.rows)))
        self._private = torch.empty(self._batch * T * V, dtype=self._dtype)
        self._sent = 0
        self._last: Rows = targets.rows[:0]
        self.nats = 0.0
        self.bytes = 0

    def send_rows(self) -> dict[str, int] | None:
        """Put the next rows' inputs (n, T) into the shared memory; return where, or None when all were sent."""
        rows = self._targets.rows[self._sent : self._sent + self._batch]
        if not len(rows):
            return None
        self._last = rows
        self._sent += len(rows)
        memory.write(self._shared.data, np.ascontiguousarray(rows[:, :-1]).data, 0)
        return {"rows": len(rows), "offset": 0, "logits_offset": 0, "length": self._targets.sequence_length}

    def take_logits(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Copy the logits of the rows sent last out of the variant's reach.

        Returns:
            Logits (n T, V) in the dtype agreed on, and targets (n T,), on the device.

        Raises:
            EOFError: the shared memory was cut.
        """
        T, V = self._targets.sequence_length, self._targets.vocab_size
        logits = self._private[: len(self._last) * T * V]
        memory.read(self._shared.logits, logits.view(torch.uint8).numpy().data, 0)
        targets = torch.from_numpy(self._last[:, 1:].astype(np.int64)).reshape(-1)
        device = self._targets.device
        return logits.view(-1, V).to(device), targets.to(device)

    def score(self, logits: torch.Tensor, targets: torch.Tensor) -> str | None:
        """Add a batch to the sums; return the rule it broke, if any.

        Args:
            logits: (n, V), private.
            targets: (n,).
        """
        sizes = self._targets.token_bytes[targets]
        nats = negative_log_likelihoods(logits, targets)
        if not bool(torch.isfinite(nats).all()):
            return "non-finite logits"
        if bool((nats < 0).any()):
            return "a negative loss"
        self.nats += float(nats.double()[sizes > 0].sum())
        self.bytes += int(sizes.sum())
        return None


def negative_log_likelihoods(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the loss of each token in nats, normalized here: (n, V) any float type, (n,) -> (n,) float32."""
    piece = max(1, _LOGITS_A_PIECE // logits.shape[1])
    losses = [
        torch.nn.functional.cross_entropy(some.float(), wanted, reduction="none")
        for some, wanted in zip(torch.split(logits, piece), torch.split(targets, piece), strict=True)
    ]
    return torch.cat(losses)


def open_targets(folder: Path, device: str) -> Targets:
    """Open what is scored on.

    Raises:
        DataError: it is missing or damaged.
    """
    data = open_data(folder)
    rows = data.open_rows("val")
    if int(rows.max()) >= data.vocab_size:
        raise DataError(f"{folder}: val.bin holds tokens that the vocabulary lacks; run `autoresearch-ray prepare`.")
    return Targets(rows, torch.from_numpy(data.token_bytes()).to(device), device)


def serve(wire: Wire) -> None:
    """Score one model after the other until the supervisor is gone.

    Requests are `open` (once), then for each model `begin` (with the shared memory) and `logits`. Each answer repeats
    the request's `turn`, so that the supervisor can tell one that is late from one that it waits for. The answer to
    `logits` leaves before the loss is computed: the variant computes its next logits meanwhile.
    """
    try:
        request, _ = wire.receive()
        torch.set_num_threads(request["threads"])
        try:
            targets = open_targets(Path(request["data"]), request["device"])
        except DataError as error:
            wire.send({"failed": str(error)})
            return
        negative_log_likelihoods(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))  # what a first time costs
        wire.send({"ready": os.getpid(), **_describe_device(request["device"])})
        _serve_models(wire, targets)
    except WireClosed:
        return


def _serve_models(wire: Wire, targets: Targets) -> None:
    shared: SharedMemory | None = None
    scoring: Scoring | None = None
    refusal: str | None = None
    while True:
        request, descriptors = wire.receive()
        if request["op"] == "begin":
            if shared is not None:
                shared.close()
            shared = SharedMemory(descriptors[0], descriptors[1], request["logits_bytes"])
            scoring, refusal = Scoring(targets, shared, request["dtype"]), None
            wire.send({"turn": request["turn"], "rows": scoring.send_rows()})
        elif scoring is not None:
            refusal = _answer_logits(wire, scoring, request["turn"], refusal)


def _answer_logits(wire: Wire, scoring: Scoring, turn: int, refusal: str | None) -> str | None:
    """Take one batch of logits and answer it; return the rule that this batch or an earlier one broke."""
    if refusal is not None:
        wire.send({"turn": turn, "refused": refusal})
        return refusal
    try:
        logits, targets = scoring.take_logits()
    except EOFError as error:
        wire.send({"turn": turn, "refused": str(error)})
        return str(error)
    rows = scoring.send_rows()
    if rows is not None:
        wire.send({"turn": turn, "rows": rows})
        return scoring.score(logits, targets)
    refusal = scoring.score(logits, targets)
    if refusal is not None:
        wire.send({"turn": turn, "refused": refusal})
    else:
        wire.send({"turn": turn, "nats": scoring.nats, "bytes": scoring.bytes})
    return refusal


def _describe_device(device: str) -> Mapping[str, Any]:
    if device == "cpu":
        return {"hardware": f"cpu {os.uname().machine}", "gpu": None}
    properties = torch.cuda.get_device_properties(0)
    return {"hardware": properties.name, "gpu": str(getattr(properties, "uuid", "0"))}
