"""Prepared data as the trusted side opens it: rows, their training order, what is scored.

Does not own how rows are made (seed_model/prepare.py). Never loads a file into memory as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from autoresearch_ray.errors import DataError

FORMAT = 1
Split = Literal["train", "val", "holdout", "check"]
"""`check` holds rows of the val documents that are never scored: a model's honesty is tested on them."""
Rows = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class PreparedData:
    """A prepared folder, checked; rows are opened when they are asked for."""

    folder: Path
    corpus: str
    tokenizer: str
    vocab_size: int
    sequence_length: int
    """Tokens a row is trained and scored on (T); rows hold one more."""
    bos_token: int
    rows: Mapping[str, int]
    """Rows of each split."""
    data_hash: str
    prepare_hash: str

    def open_rows(self, split: Split) -> Rows:
        """Return the rows (rows, T + 1) of a split, read-only and mapped.

        Raises:
            DataError: the file is missing or of another size than meta.json says.
        """
        path = self.folder / f"{split}.bin"
        shape = (self.rows[split], self.sequence_length + 1)
        try:
            size = path.stat().st_size
        except OSError:
            raise _damaged(self.folder, f"{path.name} cannot be read") from None
        if size != shape[0] * shape[1] * 2:
            raise _damaged(self.folder, f"{path.name} has {size} bytes where {shape[0] * shape[1] * 2} are expected")
        return np.memmap(path, dtype=np.uint16, mode="r", shape=shape)

    def token_bytes(self) -> npt.NDArray[np.int32]:
        """Return the UTF-8 bytes of each token, (vocab_size,); 0 for special tokens, which are not scored.

        Raises:
            DataError: the file is missing or damaged.
        """
        try:
            sizes = np.load(self.folder / "token_bytes.npy", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            raise _damaged(self.folder, "token_bytes.npy cannot be read") from None
        if sizes.shape != (self.vocab_size,) or sizes.dtype != np.int32 or sizes.min() < 0:
            raise _damaged(self.folder, f"token_bytes.npy does not hold {self.vocab_size} sizes")
        checked: npt.NDArray[np.int32] = sizes
        return checked


def open_data(folder: Path) -> PreparedData:
    """Open a prepared folder.

    Raises:
        DataError: nothing was prepared there, or the folder is damaged.
    """
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{folder}: no data was prepared there; run `autoresearch-ray prepare`.") from None
    except (OSError, ValueError):
        raise _damaged(folder, "meta.json cannot be read") from None
    data = _read_meta(folder, meta)
    for split in get_args(Split):
        data.open_rows(split)
    data.token_bytes()
    return data


class TrainingOrder:
    """The order in which one experiment is served training rows: a fresh permutation for each pass, from its seed.

    Shorter windows than rows: in every pass each row gives one window, another one in each of as many passes as there
    are windows in a row, so that a batch mixes rows as well as a batch of whole rows does.
    """

    def __init__(self, rows: Rows, seed: int) -> None:
        self._rows = rows
        self._rng = np.random.default_rng(seed)
        self._pass = -1
        self._left = np.empty(0, dtype=np.int64)

    def draw(self, batch: int, length: int) -> Rows:
        """Return the next tokens, (batch, length + 1); `length` is at most that of a row."""
        tokens = np.empty((batch, length + 1), dtype=np.uint16)
        filled = 0
        while filled < batch:
            if not len(self._left):
                self._left = self._rng.permutation(len(self._rows))
                self._pass += 1
            chosen = self._left[: batch - filled]
            self._left = self._left[len(chosen) :]
            tokens[filled : filled + len(chosen)] = self._windows(chosen, length)
            filled += len(chosen)
        return tokens

    def _windows(self, chosen: npt.NDArray[np.int64], length: int) -> Rows:
        in_row = (self._rows.shape[1] - 1) // length
        if in_row == 1:
            whole: Rows = self._rows[chosen, : length + 1]
            return whole
        starts = (chosen + self._pass) % in_row * length
        windows: Rows = self._rows[chosen[:, None], starts[:, None] + np.arange(length + 1)]
        return windows


def _read_meta(folder: Path, meta: Any) -> PreparedData:
    kinds = {
        "corpus": str,
        "tokenizer": str,
        "vocab_size": int,
        "sequence_length": int,
        "bos_token": int,
        "rows": dict,
        "data_hash": str,
        "prepare_hash": str,
    }
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise _damaged(folder, f"meta.json is not of format {FORMAT}")
    for name, kind in kinds.items():
        if type(meta.get(name)) is not kind:
            raise _damaged(folder, f"meta.json has no usable {name!r}")
    for split in get_args(Split):
        if type(meta["rows"].get(split)) is not int or meta["rows"][split] < 1:
            raise _damaged(folder, f"meta.json counts no rows of {split!r}")
    if meta["sequence_length"] < 1 or not 2 <= meta["vocab_size"] <= 65_536:
        raise _damaged(folder, "meta.json holds an impossible size")
    return PreparedData(folder, **{name: meta[name] for name in kinds})


def _damaged(folder: Path, what: str) -> DataError:
    return DataError(f"{folder}: the prepared data is damaged ({what}); delete it and run `autoresearch-ray prepare`.")
