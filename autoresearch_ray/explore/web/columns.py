"""Columns of numbers as one block of bytes, which a browser turns into typed arrays without parsing.

Owns the format: a length (4 bytes, little endian), a JSON header of that length, then the columns, each aligned to
eight bytes. Does not own what the columns mean (points.py, progress.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Columns = Mapping[str, npt.NDArray[Any]]

TYPES = {
    "float32": "Float32Array",
    "float64": "Float64Array",
    "int32": "Int32Array",
    "int16": "Int16Array",
    "int8": "Int8Array",
    "uint8": "Uint8Array",
    "uint16": "Uint16Array",
}
"""What a column of a dtype is in the browser."""


def pack(head: Mapping[str, Any], columns: Columns) -> bytes:
    """Return the bytes of a header's plain values and of columns.

    Args:
        head: plain JSON values, not numbers that are not finite.
        columns: one-dimensional arrays of a dtype in TYPES, by name.
    """
    entries, blocks, offset = [], [], 0
    for name, column in columns.items():
        block = np.ascontiguousarray(column).tobytes()
        entries.append({"name": name, "type": TYPES[column.dtype.name], "offset": offset, "length": len(column)})
        blocks.append(block + bytes(-len(block) % 8))
        offset += len(blocks[-1])
    header = json.dumps({"head": head, "columns": entries}, allow_nan=False, ensure_ascii=False).encode()
    header += b" " * (-(len(header) + 4) % 8)
    return len(header).to_bytes(4, "little") + header + b"".join(blocks)


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Return what was packed: the header's values and the columns by name."""
    size = int.from_bytes(data[:4], "little")
    header = json.loads(data[4 : 4 + size])
    names = {browser: numpy for numpy, browser in TYPES.items()}
    columns = {
        entry["name"]: np.frombuffer(data, names[entry["type"]], entry["length"], 4 + size + entry["offset"])
        for entry in header["columns"]
    }
    return header["head"], columns
