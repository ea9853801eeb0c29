"""How much of a GPU's memory processes hold, as the driver says: NVML through ctypes, neither CUDA nor torch."""

from __future__ import annotations

import ctypes
from collections.abc import Collection
from typing import Any

_SUCCESS, _TOO_SMALL = 0, 7
_UNKNOWN = (1 << 64) - 1
_MOST_PROCESSES = 256


class _Process(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class Cards:
    """The GPUs of this machine."""

    def __init__(self, library: Any) -> None:
        """Take a loaded and initialised NVML."""
        self._library = library
        count = ctypes.c_uint()
        if library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != _SUCCESS:
            count.value = 0
        self._devices = []
        for index in range(count.value):
            device = ctypes.c_void_p()
            if library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(device)) == _SUCCESS:
                self._devices.append(device)

    @property
    def smallest(self) -> int | None:
        """The bytes of the smallest GPU's memory, None where there is no GPU."""
        totals = []
        for device in self._devices:
            memory = _Memory()
            if self._library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) == _SUCCESS:
                totals.append(memory.total)
        return min(totals, default=None)

    @property
    def names(self) -> tuple[str, ...]:
        """The models of the GPUs, in their order."""
        return tuple(
            self._text(self._library.nvmlDeviceGetName, device) or "a GPU that does not say its name"
            for device in self._devices
        )

    @property
    def driver(self) -> str:
        """The version of the driver, empty where it does not say."""
        return self._text(self._library.nvmlSystemGetDriverVersion)

    def _text(self, ask: Any, *subject: ctypes.c_void_p) -> str:
        text = ctypes.create_string_buffer(96)
        answer = ask(*subject, text, ctypes.c_uint(len(text)))
        return text.value.decode(errors="replace") if answer == _SUCCESS else ""

    def held_by(self, pids: Collection[int]) -> int:
        """Return the bytes that these processes hold together, on all GPUs."""
        return sum(used for device in self._devices for pid, used in self._processes(device) if pid in pids)

    def _processes(self, device: ctypes.c_void_p) -> list[tuple[int, int]]:
        found = (_Process * _MOST_PROCESSES)()
        count = ctypes.c_uint(_MOST_PROCESSES)
        answer = self._library.nvmlDeviceGetComputeRunningProcesses_v3(device, ctypes.byref(count), found)
        if answer not in (_SUCCESS, _TOO_SMALL):
            return []
        entries = found[: min(count.value, _MOST_PROCESSES)]
        return [(entry.pid, entry.used) for entry in entries if entry.used != _UNKNOWN]


def open_cards() -> Cards | None:
    """Return the GPUs of this machine, None where the driver's library is missing or too old."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        return Cards(library) if library.nvmlInit_v2() == _SUCCESS else None
    except (OSError, AttributeError):
        return None
