"""How commands print: rich on a terminal, plain lines elsewhere, JSON when asked.

Owns the two consoles. Does not own what is printed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

_PIPE_WIDTH = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160
"""Where nobody looks at columns, lines are cut late; a terminal's own width counts otherwise."""

console = Console(highlight=False, soft_wrap=False, width=_PIPE_WIDTH)
errors = Console(stderr=True, highlight=False)


def show(renderable: RenderableType, values: Any, as_json: bool) -> None:
    """Print a view, through the pager where it is longer than the terminal; with `as_json` the values behind it."""
    if as_json:
        sys.stdout.write(json.dumps(values, default=_encode, indent=2, ensure_ascii=False) + "\n")
        return
    lines = console.render_lines(renderable, pad=False) if console.is_terminal else []
    if len(lines) > console.height:
        with console.pager(styles=True):
            console.print(renderable)
    else:
        console.print(renderable)


def _encode(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot write {type(value).__name__} as JSON")
