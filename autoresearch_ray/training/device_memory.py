"""Memory of the GPU that the scorer allocates and a variant's process maps, through a plain descriptor.

Owns the allocation and our mapping of it. prepare.py holds the other side, which imports the descriptor. Torch's own
IPC handles would refuse a process of another user.
"""

from __future__ import annotations

import ctypes
import os

import torch

from autoresearch_ray.errors import SupervisionError

_PINNED, _POSIX_DESCRIPTOR, _DEVICE, _READ_WRITE = 1, 1, 1, 3


class _Location(ctypes.Structure):
    """CUmemLocation."""

    _fields_ = (("type", ctypes.c_int), ("id", ctypes.c_int))


class _Properties(ctypes.Structure):
    """CUmemAllocationProp."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("handles", ctypes.c_int),
        ("location", _Location),
        ("windows", ctypes.c_void_p),
        ("flags", ctypes.c_ubyte * 8),
    )


class _Access(ctypes.Structure):
    """CUmemAccessDesc."""

    _fields_ = (("location", _Location), ("flags", ctypes.c_int))


class DeviceMemory:
    """Zeroed bytes of the GPU, mapped here. `descriptor` is what another process imports."""

    def __init__(self, size: int) -> None:
        """Allocate, export and map `size` bytes, a multiple of `memory.GRAIN`.

        Raises:
            SupervisionError: the driver refuses, for instance because the GPU is full.
        """
        torch.zeros(1, device="cuda")  # starts CUDA in this process
        self._driver = ctypes.CDLL("libcuda.so.1")
        device = _Location(_DEVICE, torch.cuda.current_device())
        properties = _Properties(_PINNED, _POSIX_DESCRIPTOR, device, None)
        handle, descriptor = ctypes.c_uint64(), ctypes.c_int()
        self.size = size
        length, zero = ctypes.c_size_t(self.size), ctypes.c_ulonglong(0)
        self._call("cuMemCreate", ctypes.byref(handle), length, ctypes.byref(properties), zero)
        self._call(
            "cuMemExportToShareableHandle", ctypes.byref(descriptor), handle, ctypes.c_int(_POSIX_DESCRIPTOR), zero
        )
        self.descriptor = descriptor.value
        self._address = ctypes.c_uint64()
        self._call(
            "cuMemAddressReserve", ctypes.byref(self._address), length, ctypes.c_size_t(0), ctypes.c_uint64(0), zero
        )
        self._call("cuMemMap", self._address, length, ctypes.c_size_t(0), handle, zero)
        self._call("cuMemRelease", handle)  # the mapping and the descriptor keep it
        access = _Access(device, _READ_WRITE)
        self._call("cuMemSetAccess", self._address, length, ctypes.byref(access), ctypes.c_size_t(1))
        self.bytes = torch.as_tensor(_Array(self._address.value, self.size), device="cuda")
        self.bytes.zero_()
        torch.cuda.synchronize()

    def close(self) -> None:
        """Unmap it; it is freed when no process has it any more."""
        torch.cuda.synchronize()
        del self.bytes
        length = ctypes.c_size_t(self.size)
        self._call("cuMemUnmap", self._address, length)
        self._call("cuMemAddressFree", self._address, length)
        os.close(self.descriptor)

    def _call(self, name: str, *arguments: object) -> None:
        code = getattr(self._driver, name)(*arguments)
        if code:
            raise SupervisionError(f"The memory for logits cannot be shared on this GPU: {name} failed with {code}.")


class _Array:
    """What torch.as_tensor reads an address from."""

    def __init__(self, address: int, size: int) -> None:
        self.__cuda_array_interface__ = {"shape": (size,), "typestr": "|u1", "data": (address, False), "version": 3}
