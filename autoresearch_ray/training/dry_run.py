"""Runs one train.py on the meta device, up to its first batches: a script for a process of its own, within walls.

Standard library and torch only. Owns the stand-in for prepare.py and what counts as a fault of the program; what it
prints is advice, and nothing that counts is believed of it. Does not own the process (building.py).
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import time
import traceback
import types
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode

MOST_BATCHES = 4
"""A program that accumulates gradients for longer is not followed to its optimizer."""
MOST_SECONDS = 5.0
MARK = "dry run: "
"""What comes after it, on a line of its own, is the outcome as JSON."""
_META = torch.device("meta")
_CONSTRUCTORS = frozenset(_device_constructors())
_MOVES = frozenset({"to", "cuda", "cpu"})
_AUTOCAST = frozenset(
    {
        "linear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "addmm", "addbmm", "baddbmm", "einsum",
        "conv1d", "conv2d", "scaled_dot_product_attention",
    }
)  # fmt: skip
"""What an autocast region computes in its low precision."""
_UNDECIDED = (NotImplementedError, MemoryError, KeyboardInterrupt, RecursionError, OSError, ImportError, SystemError)
"""What says nothing about the program, only that tensors without content cannot answer it."""
_UNDECIDED_WORDS = ("meta", "data-dependent", "storage", "dtype", "cuda", "nvidia", "triton", "compile", "stream")


class Done(BaseException):
    """The program has come far enough; no `except Exception` of its own catches this."""


class OnMeta(TorchFunctionMode):
    """Makes every tensor a meta tensor, whatever device it is asked for, and imitates autocast."""

    def __init__(self) -> None:
        super().__init__()
        self.low: torch.dtype | None = None

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(function, "__name__", "")
        if function in _CONSTRUCTORS:
            kwargs["device"] = _META
        elif name in _MOVES:
            return _moved(args[0], (*args[1:], *kwargs.values()))
        elif "device" in kwargs:
            kwargs["device"] = _META
        if self.low is not None and name in _AUTOCAST:
            args = tuple(_lowered(arg, self.low) for arg in args)
            kwargs = {key: _lowered(value, self.low) for key, value in kwargs.items()}
        return function(*args, **kwargs)


def _moved(tensor: torch.Tensor, wanted: tuple[Any, ...]) -> torch.Tensor:
    """Return a tensor as `to` does where there is one device only: with another type, if one is asked for."""
    types = [value.dtype if isinstance(value, torch.Tensor) else value for value in wanted]
    return next((tensor.type(value) for value in types if isinstance(value, torch.dtype)), tensor)


def _lowered(value: Any, low: torch.dtype) -> Any:
    return value.to(low) if isinstance(value, torch.Tensor) and value.is_floating_point() else value


class Tally(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that are alive, and their peak."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outcome = function(*args, **(kwargs or {}))
        for value in outcome if isinstance(outcome, (tuple, list)) else (outcome,):
            if isinstance(value, torch.Tensor):
                self._note(value.untyped_storage())
        return outcome

    def _note(self, storage: Any) -> None:
        number, size = storage._cdata, storage.nbytes()
        if number not in self._known:
            self._known.add(number)
            self.alive += size
            self.peak = max(self.peak, self.alive)
            weakref.finalize(storage, self._release, number, size)

    def _release(self, number: int, size: int) -> None:
        self._known.discard(number)
        self.alive -= size


class Loader:
    """Yields batches without content, and ends the run after a few."""

    def __init__(self, rows: int, length: int) -> None:
        self.progress = 0.5
        self._shape = (rows, length)
        self._left = MOST_BATCHES

    def report(self, loss: object) -> None:
        """Take a loss, as the true one does."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return self

    def __next__(self) -> tuple[torch.Tensor, torch.Tensor]:
        self._left -= 1
        if self._left < 0 or time.monotonic() - _STARTED > MOST_SECONDS:
            raise Done
        return tuple(torch.zeros(self._shape, dtype=torch.long, device="meta") for _ in "xy")  # type: ignore[return-value]


def _stand_in(constants: dict[str, Any]) -> types.ModuleType:
    """Return a module `prepare` with these constants, which checks what it is asked for as the true one does."""

    def make_dataloader(rows: int, length: int) -> Loader:
        longest = constants["MAX_SEQ_LEN"]
        if not isinstance(rows, int) or not isinstance(length, int) or rows < 1 or not 1 <= length <= longest:
            raise ValueError(f"make_dataloader({rows!r}, {length!r}): needs B >= 1 and 1 <= T <= {longest}")
        return Loader(rows, length)

    def evaluate_bpb(model: Any) -> float:
        raise Done

    module = types.ModuleType("prepare")
    module.__dict__.update(constants, make_dataloader=make_dataloader, evaluate_bpb=evaluate_bpb)
    return module


def _pretend(device: str, mode: OnMeta) -> None:
    """Take compilation, precision and the GPU out of the way: none of them can be had without content."""

    def uncompiled(function: Any = None, **_: Any) -> Any:
        return function if function is not None else (lambda wrapped: wrapped)

    @contextlib.contextmanager
    def autocast(device_type: str, dtype: Any = None, enabled: bool = True, **_: Any) -> Iterator[None]:
        before, mode.low = mode.low, (dtype or torch.bfloat16) if enabled else None
        try:
            yield
        finally:
            mode.low = before

    library: Any = torch
    library.compile = uncompiled
    library.autocast = library.amp.autocast = autocast
    library.Tensor.pin_memory = lambda tensor, *_: tensor
    if device == "cuda":
        for name in ("synchronize", "empty_cache", "reset_peak_memory_stats", "set_device", "manual_seed_all"):
            setattr(library.cuda, name, _quiet())
        library.cuda.is_available = lambda: True
        library.cuda.get_device_capability = lambda *_: (9, 0)
        attention: Any = importlib.import_module("torch.nn.attention.flex_attention")
        attention.flex_attention = lambda q, k, v, **_: q + 0 * (k.sum() + v.sum())
        attention.create_block_mask = _quiet()


def _quiet() -> Callable[..., None]:
    """Return a new function that does nothing; the compiler's tables want another object for each name of torch's."""
    return lambda *_, **__: None


def _fault(error: BaseException, path: str) -> str | None:
    """Return the line that says what is wrong with the program; None where the error says nothing about it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    text = " ".join(str(error).split())
    if isinstance(error, _UNDECIDED) or not frames or any(word in text.lower() for word in _UNDECIDED_WORDS):
        return None
    return f"{type(error).__name__}: {text[:300]} (line {frames[-1].lineno}: {(frames[-1].line or '').strip()[:100]})"


def main(arguments: list[str]) -> None:
    """Run a program and print what came of it.

    Args:
        arguments: the program's file, and the constants of prepare.py as JSON.
    """
    path, constants = arguments[0], json.loads(arguments[1])
    sys.modules["prepare"] = _stand_in(constants)
    mode, tally = OnMeta(), Tally()
    _pretend(constants["DEVICE"], mode)
    outcome: dict[str, Any] = {"refusal": None, "finished": False}
    program = {"__name__": "__main__", "__file__": path, "__builtins__": __builtins__}
    text = Path(path).read_text(encoding="utf-8", errors="surrogatepass")
    try:
        with mode, tally:
            exec(compile(text, path, "exec", dont_inherit=True), program)
    except Done:
        outcome["finished"] = True
    except BaseException as error:  # noqa: BLE001  (whatever the program raises is what is asked for)
        outcome["refusal"] = _fault(error, path)
        outcome["stopped"] = f"{type(error).__name__}: {str(error)[:300]}"
    print(f"\n{MARK}{json.dumps({**outcome, 'bytes': tally.peak})}", flush=True)


_STARTED = time.monotonic()

if __name__ == "__main__":
    main(sys.argv[1:])
