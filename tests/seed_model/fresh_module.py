"""Loads seed_model/prepare.py as a module that is connected to nothing."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

SEED_MODEL = Path(__file__).parents[2] / "seed_model"


def load() -> ModuleType:
    """Return a fresh module each time."""
    name = "prepare_under_test"
    spec = importlib.util.spec_from_file_location(name, SEED_MODEL / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module
