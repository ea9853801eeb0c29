"""Tensors sent between a program's own processes go by value: torch sends descriptors of shared memory, which takes
the sockets that nobody has inside the walls. Without this a DataLoader with workers would wait for ever.

Torch is not imported here: either it has been, or its module is mended when the program imports it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_MODULE = "torch.multiprocessing.reductions"


def send_by_value() -> None:
    """Have tensors on the CPU copied when they are sent, now or once torch is imported."""
    loaded = sys.modules.get(_MODULE)
    if loaded is None:
        sys.meta_path.insert(0, _Mender())
    else:
        _mend(loaded)
        loaded.init_reductions()


class _Mender(MetaPathFinder):
    """Finds one module, and mends it as soon as it has been executed."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the module's own specification with a loader that mends it; nothing for any other module."""
        found = PathFinder.find_spec(name, path, target) if name == _MODULE else None
        if found is not None and found.loader is not None:
            found.loader = _MendingLoader(found.loader)
        return found


class _MendingLoader(Loader):
    def __init__(self, own: Loader) -> None:
        self._own = own

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create it as its own loader does."""
        return self._own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute it, then mend it; torch registers what is in it right afterwards."""
        self._own.exec_module(module)
        _mend(module)


def _mend(module: Any) -> None:
    """Replace how the memory of a tensor is reduced for another process; that of a GPU stays as it is."""
    torch, shared = sys.modules["torch"], module.reduce_storage

    def rebuild_copied(content: bytes) -> Any:
        return torch.frombuffer(bytearray(content), dtype=torch.uint8).untyped_storage()

    def reduce_storage(storage: Any) -> Any:
        if type(storage) is not torch.UntypedStorage or storage.device.type != "cpu" or not storage.size():
            return shared(storage)
        view = torch.empty(0, dtype=torch.uint8).set_(storage)
        return rebuild_copied, (bytes(memoryview(view.numpy())),)

    # Pickle finds it by its name in this module, in every process that was forked from here.
    rebuild_copied.__module__, rebuild_copied.__qualname__ = _MODULE, "rebuild_copied"
    module.rebuild_copied, module.reduce_storage = rebuild_copied, reduce_storage
