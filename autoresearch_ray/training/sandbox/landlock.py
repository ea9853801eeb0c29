"""Landlock: which files a process may read, write and run; no TCP; no signals and abstract sockets to the outside.

Standard library only. Does not own which files those are (readable.py).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable
from enum import IntFlag

from autoresearch_ray.training.sandbox import kernel


class Right(IntFlag):
    """What may be done beneath a path."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


READ = Right.READ_FILE | Right.READ_DIR | Right.EXECUTE
LIST = Right.READ_DIR
USE = Right.READ_FILE | Right.WRITE_FILE
"""Of devices and of a process's own entries in /proc."""
OWN = ~(Right.MAKE_CHAR | Right.MAKE_BLOCK | Right.IOCTL_DEV)
"""Of the scratch folder."""
_OF_FILES = Right.EXECUTE | Right.WRITE_FILE | Right.READ_FILE | Right.TRUNCATE | Right.IOCTL_DEV
_SINCE = {2: Right.REFER, 3: Right.TRUNCATE, 5: Right.IOCTL_DEV}
_FIRST_RIGHTS = Right((1 << 13) - 1)
_NET_SINCE, _NET = 4, 0b11  # bind and connect TCP
_SCOPE_SINCE, _SCOPE = 6, 0b11  # abstract Unix sockets, signals
_LOG_SINCE, _NO_LOG = 7, 0b101  # nothing in the kernel's log: a variant would fill it
_VERSION_FLAG, _PATH_BENEATH = 1, 1


class _RulesetAttributes(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def version() -> int:
    """Return the version that this kernel speaks, 0 for none."""
    try:
        return kernel.call("landlock_create_ruleset", None, 0, _VERSION_FLAG)
    except OSError:
        return 0


class Ruleset:
    """What may be done beneath which paths. Shared with forked children: what one adds, the others have too."""

    def __init__(self, allowed: Iterable[tuple[int, Right]], spoken: int) -> None:
        """Make a set.

        Args:
            allowed: descriptors of files and folders (O_PATH will do), and what may be done beneath each.
            spoken: what `version` gave.

        Raises:
            OSError: the kernel refuses.
        """
        handled = _FIRST_RIGHTS
        for since, right in _SINCE.items():
            if spoken >= since:
                handled |= right
        net, scope = (_NET if spoken >= _NET_SINCE else 0), (_SCOPE if spoken >= _SCOPE_SINCE else 0)
        attributes = _RulesetAttributes(handled, net, scope)
        size = 24 if scope else 16 if net else 8
        self._descriptor = kernel.call("landlock_create_ruleset", ctypes.byref(attributes), size, 0)
        self._handled = handled
        self._flags = _NO_LOG if spoken >= _LOG_SINCE else 0
        for descriptor, right in allowed:
            self.allow(descriptor, right)

    def allow(self, descriptor: int, right: Right) -> None:
        """Allow one thing more (Raises OSError)."""
        rule = _PathBeneath(int(right & self._handled), descriptor)
        try:
            kernel.call("landlock_add_rule", self._descriptor, _PATH_BENEATH, ctypes.byref(rule), 0)
        except OSError as error:
            rule.allowed &= int(_OF_FILES)
            if error.errno != errno.EINVAL or not rule.allowed:
                raise
            kernel.call("landlock_add_rule", self._descriptor, _PATH_BENEATH, ctypes.byref(rule), 0)  # it is a file

    def restrict(self) -> None:
        """Allow this process and all that it starts nothing else; no_new_privs must be set (Raises OSError)."""
        kernel.call("landlock_restrict_self", self._descriptor, self._flags)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)
