"""The trusted process that knows the targets: sends rows, takes logits, computes nats and judges the model's honesty.

Forked from the launcher. Does not own time, nor the channel to the variant: the supervisor passes its messages on.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from autoresearch_ray.errors import DataError, SupervisionError
from autoresearch_ray.training import memory
from autoresearch_ray.training.checks import Checks
from autoresearch_ray.training.data import PreparedData, Rows, open_data
from autoresearch_ray.training.device_memory import DeviceMemory
from autoresearch_ray.training.plan import CHECK_SHARE, Kind, Plan, make_plan
from autoresearch_ray.training.successors import Successors, pool
from autoresearch_ray.training.wire import Wire, WireClosed

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
USUAL_DTYPES = {"cpu": "float32", "cuda": "bfloat16"}
"""In which prepare.py sends logits, by device."""
_LOGITS_A_PIECE = {"cpu": 1 << 22, "cuda": 1 << 27}
"""Logits that the loss is computed of at a time, by device; bounds the scorer's memory."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a model gets no score."""

    reason: str
    broke_rule: bool
    """True when it cheats, which makes it `rejected`; False when its logits are no logits: `crashed`."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What is scored on, opened once, and what a model's honesty is tested with."""

    val: Rows
    """(rows, T + 1)."""
    holdout: Rows
    check: Rows
    """Rows like those of val that are never scored."""
    successors: Successors
    token_bytes: torch.Tensor
    """(V,)."""
    covariates: npt.NDArray[np.float64]
    """Of the val rows and then the holdout rows."""
    device: str

    @property
    def sequence_length(self) -> int:
        """T."""
        return int(self.val.shape[1]) - 1

    @property
    def vocab_size(self) -> int:
        """V."""
        return len(self.token_bytes)


class LogitsMemory(Protocol):
    """Where a variant puts its logits."""

    size: int
    """In bytes."""

    def copy_to(self, private: torch.Tensor) -> None:
        """Fill a contiguous tensor from the beginning of the memory.

        Raises:
            EOFError: the memory was cut.
        """
        ...


class HostLogits:
    """Logits in memory of the CPU, by descriptor, which this owns."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self.size = size

    def copy_to(self, private: torch.Tensor) -> None:
        """Read it (Raises EOFError: the memory was cut)."""
        memory.read(self._descriptor, private.view(torch.uint8).numpy().data, 0)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)


class DeviceLogits:
    """Logits in memory of the GPU."""

    def __init__(self, shared: DeviceMemory) -> None:
        self._shared = shared
        self.size = shared.size

    def copy_to(self, private: torch.Tensor) -> None:
        """Copy it on the GPU, and wait for that: the variant may write again once it is told to."""
        raw = private.view(torch.uint8)
        raw.copy_(self._shared.bytes[: raw.numel()])
        torch.cuda.synchronize()


@dataclass(slots=True)
class Sums:
    """What the scored rows of one split came to."""

    nats: float = 0.0
    bytes: int = 0


class Scoring:
    """The scoring of one model: which rows are sent, and what their logits come to.

    Sums grow with every batch of logits that is taken; they are a score once `send_rows` has nothing left to send and
    `verdict` finds nothing wrong.
    """

    def __init__(
        self, targets: Targets, plan: Plan, tokens: int, logits: LogitsMemory, dtype: str, rng: np.random.Generator
    ) -> None:
        """Begin with the first batch.

        Args:
            targets: what is scored on.
            plan: what is sent, made by `plan_for` these targets.
            tokens: descriptor of the memory that rows are written to.
            logits: where their logits come; holds those of a batch.
            dtype: of the logits, a key of `protocol.LOGITS_ITEMSIZE`.
            rng: draws a second look.
        """
        self._targets, self._tokens, self._logits, self._rng = targets, tokens, logits, rng
        self.plan = plan
        self._checks = Checks(plan, dtype, targets.covariates)
        numbers = plan.batch * targets.sequence_length * targets.vocab_size
        self._private = torch.empty(numbers, dtype=_DTYPES[dtype], device=targets.device)
        self._sent = self._scored = 0
        self._confirming = False
        self.sums = {"val": Sums(), "holdout": Sums()}

    def send_rows(self) -> dict[str, int] | None:
        """Put the next rows' inputs (n, T) into the shared memory; return where, or None when all were sent."""
        start = self._sent * self.plan.batch
        rows = self.plan.inputs[start : start + self.plan.batch]
        if not len(rows):
            return None
        self._sent += 1
        memory.write(self._tokens, np.ascontiguousarray(rows).data, 0)
        return {"rows": len(rows), "offset": 0, "logits_offset": 0, "length": self._targets.sequence_length}

    def take_logits(self) -> torch.Tensor:
        """Copy the logits of the rows sent last out of the variant's reach.

        Returns:
            Logits (n, T, V) in the dtype agreed on, on the device that computes.

        Raises:
            EOFError: the shared memory was cut.
        """
        self._logits.copy_to(self._private)
        return self._private.view(self.plan.batch, self._targets.sequence_length, self._targets.vocab_size)

    def score(self, logits: torch.Tensor) -> Refusal | None:
        """Add the next batch to the sums and to what is known of the model; return what is wrong with it, if anything.

        Args:
            logits: (n, T, V), private.
        """
        start = self._scored * self.plan.batch
        places = slice(start, start + self.plan.batch)
        self._scored += 1
        targets = torch.from_numpy(self.plan.targets[places].astype(np.int64)).to(logits.device)
        nats = negative_log_likelihoods(logits.flatten(0, 1), targets.flatten()).view(targets.shape)
        counted = torch.from_numpy(self.plan.kind[places] == Kind.SCORE).to(logits.device)
        if bool(nats.isnan().any()) or not bool(nats[counted].isfinite().all()):
            return Refusal("non-finite logits", broke_rule=False)
        if bool((nats < 0).any()):
            return Refusal("a negative loss", broke_rule=False)
        sizes = self._targets.token_bytes[targets] * counted[:, None]
        of_rows = (nats.double() * (sizes > 0)).nan_to_num().sum(dim=1).cpu().numpy()
        in_val = self.plan.row[places] < len(self._targets.val)
        bytes_of_rows = sizes.sum(dim=1).cpu().numpy()
        for sums, mine in ((self.sums["val"], in_val), (self.sums["holdout"], ~in_val)):
            sums.nats += float(of_rows[mine].sum())
            sums.bytes += int(bytes_of_rows[mine].sum())
        self._checks.observe(start, logits, nats)
        return None

    def look_closer(self) -> bool:
        """Plan a second look at what is suspicious once all is scored; False when there is nothing, or it was done."""
        suspect = None if self._confirming else self._checks.suspect()
        if suspect is None:
            return False
        self._confirming = True
        self.plan.confirm(suspect, self._rng)
        return True

    def evidence(self) -> dict[str, list[float]]:
        """Return the log e-values of every test so far, by the rule that it guards."""
        return self._checks.evidence()

    def verdict(self) -> Refusal | None:
        """Return the rule that the model broke, if any; after the last batch."""
        broken = self._checks.broken()
        return None if broken is None else Refusal(broken, broke_rule=True)


def plan_for(targets: Targets, size: int, dtype: str, holdout: bool, rng: np.random.Generator) -> Plan:
    """Plan the scoring of one model.

    Args:
        targets: what is scored on.
        size: bytes of the memory that logits come in.
        dtype: of the logits, a key of `protocol.LOGITS_ITEMSIZE`.
        holdout: score the holdout rows too, mixed with the others.
        rng: must not be foreseen by the variant.
    """
    T, V = targets.sequence_length, targets.vocab_size
    rows = np.concatenate([targets.val, targets.holdout]) if holdout else targets.val
    fitting = size // (T * V * _DTYPES[dtype].itemsize)
    batch = max(1, min(fitting, memory.tokens_a_batch(targets.device, V) // T, len(rows)))
    return make_plan(rows, targets.check, targets.successors, batch, CHECK_SHARE[targets.device], V, rng)


def negative_log_likelihoods(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the loss of each token in nats, normalized here: (n, V) any float type, (n,) -> (n,) float32.

    NaN where the logits have no finite maximum, infinite where only the target is ruled out.
    """
    piece = max(1, _LOGITS_A_PIECE[logits.device.type] // logits.shape[1])
    losses = [
        torch.nn.functional.cross_entropy(some.float(), wanted, reduction="none")
        for some, wanted in zip(torch.split(logits, piece), torch.split(targets, piece), strict=True)
    ]
    return torch.cat(losses)


def covariates(rows: Rows, vocab_size: int) -> npt.NDArray[np.float64]:
    """Return what may explain how hard rows (n, T + 1) are: (n, 2), standardized.

    The mean surprise of their tokens by the tokens' frequencies, and how well zlib compresses them.
    """
    counts = np.bincount(rows.reshape(-1), minlength=vocab_size) + 1.0
    surprise = -np.log(counts / counts.sum())[rows].mean(axis=1)
    compressed = np.array([len(zlib.compress(row.tobytes(), 1)) for row in rows], dtype=np.float64)
    both = np.stack([surprise, compressed], axis=1)
    standardized: npt.NDArray[np.float64] = (both - both.mean(axis=0)) / np.maximum(both.std(axis=0), 1e-12)
    return standardized


def open_targets(folder: Path, device: str) -> Targets:
    """Open what is scored on.

    Raises:
        DataError: it is missing or damaged.
    """
    data = open_data(folder)
    val, holdout, check = (_whole(data, split) for split in ("val", "holdout", "check"))
    token_bytes = torch.from_numpy(data.token_bytes()).to(device)
    explained = covariates(np.concatenate([val, holdout]), data.vocab_size)
    return Targets(val, holdout, check, pool(data.open_rows("train")), token_bytes, explained, device)


def _whole(data: PreparedData, split: Any) -> Rows:
    rows = np.array(data.open_rows(split))
    if int(rows.max()) >= data.vocab_size:
        raise DataError(
            f"{data.folder}: {split}.bin holds tokens that the vocabulary lacks; run `autoresearch-ray prepare`."
        )
    return rows


def serve(wire: Wire) -> None:
    """Score one model after the other until the supervisor is gone.

    Requests are `open` (once), then for each model `allocate` (on a GPU: the memory for its logits), `plan` (while it
    trains; has no answer), `begin` (with the shared memory) and `logits`. Each answer repeats the request's `turn`, so
    that the supervisor can tell one that is late from one that it waits for. The answer to `logits` leaves before the
    loss is computed: the variant computes its next logits meanwhile.
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
        Service(wire, targets).serve()
    except WireClosed:
        return


class Service:
    """Answers the supervisor, for one model after the other."""

    def __init__(self, wire: Wire, targets: Targets) -> None:
        self._wire = wire
        self._targets = targets
        self._device_memory: DeviceMemory | None = None
        self._opened: list[int] = []
        self._rng = np.random.default_rng()  # seeded by the system, so that nobody can foresee it
        self._planned: tuple[tuple[int, str, bool], Plan] | None = None
        self._scoring: Scoring | None = None
        self._refusal: Refusal | None = None

    def serve(self) -> None:
        """Answer until the supervisor is gone (Raises WireClosed)."""
        while True:
            request, descriptors = self._wire.receive()
            if request["op"] == "allocate":
                self._allocate(request)
            elif request["op"] == "plan":
                self._plan(request["logits_bytes"], USUAL_DTYPES[self._targets.device], request["holdout"])
            elif request["op"] == "begin":
                self._begin(request, descriptors)
            elif self._scoring is not None:
                self._answer_logits(self._scoring, request["turn"])

    def _allocate(self, request: Mapping[str, Any]) -> None:
        """Make new memory for logits on the GPU: nothing of the last model's is left in it."""
        self._scoring = None
        try:
            if self._device_memory is not None:
                self._device_memory.close()
                self._device_memory = None
            self._device_memory = DeviceMemory(request["bytes"])
        except SupervisionError as error:
            self._wire.send({"turn": request["turn"], "failed": str(error)})
            return
        self._wire.send({"turn": request["turn"]}, [self._device_memory.descriptor])

    def _plan(self, size: int, dtype: str, holdout: bool) -> Plan:
        """Return a plan that was not used yet: the one made ahead, if it is one for that."""
        wanted = (size, dtype, holdout)
        if self._planned is None or self._planned[0] != wanted:
            self._planned = wanted, plan_for(self._targets, *wanted, self._rng)
        return self._planned[1]

    def _begin(self, request: Mapping[str, Any], descriptors: list[int]) -> None:
        for descriptor in self._opened:
            os.close(descriptor)
        self._opened = descriptors
        tokens, *others = descriptors
        if self._device_memory is not None:
            logits: LogitsMemory = DeviceLogits(self._device_memory)
        else:
            logits = HostLogits(others[0], request["logits_bytes"])
        plan = self._plan(request["logits_bytes"], request["dtype"], request["holdout"])
        self._planned = None  # each is used once
        self._scoring = Scoring(self._targets, plan, tokens, logits, request["dtype"], self._rng)
        self._refusal = None
        self._wire.send({"turn": request["turn"], "rows": self._scoring.send_rows()})

    def _answer_logits(self, scoring: Scoring, turn: int) -> None:
        """Take one batch of logits and answer it."""
        if self._refusal is None:
            try:
                logits = scoring.take_logits()
            except EOFError as error:
                self._refusal = Refusal(str(error), broke_rule=False)
            else:
                rows = scoring.send_rows()
                if rows is not None:
                    self._wire.send({"turn": turn, "rows": rows})
                self._refusal = scoring.score(logits)
                if rows is not None:
                    return
        if self._refusal is None and scoring.look_closer():
            self._wire.send({"turn": turn, "rows": scoring.send_rows()})
            return
        self._refusal = self._refusal or scoring.verdict()
        if self._refusal is not None:
            told = {"refused": self._refusal.reason, "broke_rule": self._refusal.broke_rule}
        else:
            told = {split: [sums.nats, sums.bytes] for split, sums in scoring.sums.items()}
        self._wire.send({"turn": turn, **told})


def _describe_device(device: str) -> Mapping[str, Any]:
    if device == "cpu":
        return {"hardware": f"cpu {os.uname().machine}", "gpu": None}
    properties = torch.cuda.get_device_properties(0)
    return {"hardware": properties.name, "gpu": str(getattr(properties, "uuid", "0"))}
