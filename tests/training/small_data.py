"""Makes tiny prepared folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

VOCAB_SIZE = 50
SEQUENCE_LENGTH = 16
ROWS = {"train": 300, "val": 600, "holdout": 8, "check": 40}


def make_data(folder: Path, rows: dict[str, int] = ROWS, T: int = SEQUENCE_LENGTH, V: int = VOCAB_SIZE) -> Path:
    """Write a prepared folder of random tokens; BOS is V - 1, tokens 0 to 9 are two bytes long."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for split, count in rows.items():
        tokens = rng.integers(0, V, (count, T + 1)).astype(np.uint16)
        tokens[:, 0] = V - 1
        tokens.tofile(folder / f"{split}.bin")
    sizes = np.ones(V, dtype=np.int32)
    sizes[:10], sizes[V - 1] = 2, 0
    np.save(folder / "token_bytes.npy", sizes)
    write_meta(folder, rows=rows, sequence_length=T, vocab_size=V, bos_token=V - 1)
    return folder


def write_meta(folder: Path, **changes: object) -> None:
    """Write meta.json as prepare.py does, with some keys changed; None leaves a key out."""
    meta = {
        "format": 1,
        "corpus": "random",
        "tokenizer": "byte",
        "vocab_size": VOCAB_SIZE,
        "sequence_length": SEQUENCE_LENGTH,
        "bos_token": VOCAB_SIZE - 1,
        "rows": ROWS,
        "data_hash": "0" * 64,
        "prepare_hash": "1" * 64,
        "settings": {},
        **changes,
    }
    (folder / "meta.json").write_text(json.dumps({k: v for k, v in meta.items() if v is not None}))
