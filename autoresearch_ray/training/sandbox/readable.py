"""What a variant must be able to read to run: interpreter, standard library, packages one by one, system libraries.

Works on the trusted side, once for each launcher. Does not own how it is enforced (landlock.py).
"""

from __future__ import annotations

import ast
import contextlib
import functools
import glob
import importlib.metadata
import os
import re
import site
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOTS = ("torch", "numpy")
"""The distributions that every variant may use, with all that they require."""
_SYSTEM = (
    *("/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/include", "/usr/local/include", "/usr/libexec/gcc"),
    *("/lib/*-linux-*", "/lib/ld-*", "/lib64", "/usr/lib64", "/usr/lib/*-linux-*", "/usr/lib/gcc*", "/usr/lib/llvm*"),
    *("/usr/lib/*.so*", "/usr/lib/bfd-plugins", "/usr/lib/compat-ld", "/usr/lib/locale", "/usr/lib/ssl"),
    *("/usr/local/lib/*.so*", "/usr/local/lib/*-linux-*", "/usr/share/zoneinfo", "/usr/share/locale"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/timezone"),
    *("/etc/ssl/openssl.cnf", "/etc/alternatives", "/run/opengl-driver"),
)
"""What a compiler and the interpreter's extensions need of the system."""
_WHOLE_SYSTEM = ("/bin", "/sbin", "/lib", "/lib64", "/usr", "/nix/store", "/etc/ssl", "/etc/java*", "/etc/R")
"""What a command in any language may need besides."""
_KERNEL = (
    *("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/uptime", "/proc/loadavg", "/proc/version"),
    *("/proc/filesystems", "/proc/devices", "/proc/sys/vm", "/proc/sys/kernel/osrelease", "/proc/sys/kernel/pid_max"),
    *("/proc/sys/kernel/threads-max", "/proc/sys/kernel/random/boot_id", "/proc/sys/kernel/cap_last_cap"),
    *("/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/kernel/mm/transparent_hugepage"),
)
_CUDA = (
    *("/usr/local/cuda*", "/usr/local/nvidia", "/usr/share/nvidia", "/etc/nvidia", "/etc/OpenCL", "/opt/cuda"),
    *(
        "/proc/driver/nvidia",
        "/proc/modules",
        "/proc/sys/kernel",
        "/sys/bus/pci",
        "/sys/devices",
        "/sys/module/nvidia*",
    ),
    *("/sys/class/drm", "/usr/local/cuda/compat"),
)
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_CUDA_DEVICES = ("/dev/nvidia*", "/dev/nvidia-caps/*", "/dev/dxg")
_PYTHONS = ("/usr/lib/python3*", "/usr/local/lib/python3*", "/usr/lib64/python3*", "/usr/local/lib64/python3*")
_PACKAGE_FOLDERS = ("site-packages", "dist-packages")


@dataclass(frozen=True, slots=True)
class Access:
    """What a variant may do with which paths, all absolute and existing."""

    read: tuple[str, ...]
    """Files and folders that may be read, and run."""
    listed: tuple[str, ...]
    """Folders whose names may be listed, all the way down: packages are looked for in them."""
    used: tuple[str, ...]
    """Devices that may be read and written."""
    hidden: Mapping[str, str]
    """Packages that may not be imported, with where they lie."""


def access(
    device: Literal["cpu", "cuda"],
    extra: Sequence[Path] = (),
    packages: Iterable[str] = ROOTS,
    command: str | None = None,
) -> Access:
    """Return what a variant may read on this machine.

    Args:
        device: CUDA's libraries, files and devices come on top.
        extra: what a person allows besides.
        packages: distributions that may be imported, with all that they require.
        command: a program in any language that is run, with the virtual environment that it may be the interpreter of;
            all that the system holds is readable then, but for packages of Python. None is the interpreter itself.
    """
    shut = _package_folders()
    wanted = [*_SYSTEM, *_KERNEL, *_interpreter(), *(_CUDA if device == "cuda" else ())]
    wanted += () if command is None else _WHOLE_SYSTEM
    for name in ("LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH"):
        wanted += [path for path in os.environ.get(name, "").split(":") if device == "cuda" and os.path.isabs(path)]
    system = [path for pattern in wanted for path in _expanded(pattern)]
    read = [part for path in system for part in without(path, shut)]
    distributions = closure(packages)
    read += [path for name in distributions for path in _files(name)]
    read += [str(path) for path in extra]
    read += [] if command is None else _environment_of(command)
    used = [
        path for pattern in (*_DEVICES, *(_CUDA_DEVICES if device == "cuda" else ())) for path in _expanded(pattern)
    ]
    kept = tuple(dict.fromkeys(path for path in read if os.path.lexists(path)))
    library = os.path.realpath(sysconfig.get_path("stdlib"))
    return Access(kept, (library, *shut), tuple(used), _hidden(shut, kept))


def without(path: str, shut: Iterable[str]) -> list[str]:
    """Return paths that cover `path` but none of the `shut` folders below it; links are taken for what they lead to."""
    real = os.path.realpath(path)
    inner = [folder for folder in shut if folder == real or folder.startswith(real.rstrip("/") + "/")]
    if real in inner or any(real.startswith(folder + "/") for folder in shut):
        return []
    if not inner:
        return [path]
    found: list[str] = []
    for entry in os.scandir(real):
        if not entry.is_symlink():  # what it leads to is covered, or not, by itself
            found += without(entry.path, inner)
    return found


def closure(names: Iterable[str]) -> tuple[str, ...]:
    """Return distributions and what they require, as far as they are installed."""
    found: dict[str, None] = {}
    ahead = list(names)
    while ahead:
        name = re.sub(r"[-_.]+", "-", ahead.pop()).lower()
        if name in found:
            continue
        try:
            required = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found[name] = None
        for requirement in required:
            needed, _, marker = requirement.partition(";")
            if "extra" not in marker:
                ahead += re.findall(r"^[A-Za-z0-9._-]+", needed.strip())
    return tuple(found)


def imported(sources: Iterable[str]) -> tuple[str, ...]:
    """Return the installed distributions that Python sources import; a source that does not parse imports none."""
    names: set[str] = set()
    for source in sources:
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names.add(node.module.partition(".")[0])
    owners = importlib.metadata.packages_distributions()
    return tuple(sorted({owner for name in names for owner in owners.get(name, ())}))


def overlap(paths: Iterable[Path], secret: Path) -> Path | None:
    """Return the first path that lies in a folder, is it, or holds it; None when all are apart from it."""
    hidden = secret.resolve()
    for path in paths:
        real = path.resolve()
        if real == hidden or real in hidden.parents or hidden in real.parents:
            return path
    return None


def _package_folders() -> list[str]:
    """Return every folder that packages are installed in, of any interpreter that lies where we allow reading."""
    folders = {path for path in sys.path if os.path.basename(path) in _PACKAGE_FOLDERS}
    folders |= set(site.getsitepackages()) | {site.getusersitepackages()}
    pythons = [*_PYTHONS, f"{sys.base_prefix}/lib/python3*", f"{sys.prefix}/lib/python3*"]
    for pattern in (*pythons, "/usr/lib/python3", "/usr/lib/pypy3", "/usr/local/lib/pypy3*"):
        folders |= {path for name in _PACKAGE_FOLDERS for path in glob.glob(f"{pattern}/{name}")}
    return sorted({os.path.realpath(path) for path in folders if os.path.isdir(path)})


def _interpreter() -> list[str]:
    """Return the interpreter, its standard library, its headers and its shared library."""
    real = os.path.realpath(sys.executable)
    paths = [os.path.dirname(real), sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    paths += [sysconfig.get_path("include"), sysconfig.get_path("platinclude"), f"{sys.base_prefix}/include"]
    library, name = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME")
    if library and name:
        paths += glob.glob(os.path.join(library, "libpython*"))
    if sys.prefix != sys.base_prefix:
        paths += [f"{sys.prefix}/pyvenv.cfg", *glob.glob(f"{sys.prefix}/bin/python*"), f"{sys.prefix}/include"]
    return [path for path in paths if path]


@functools.lru_cache(maxsize=256)
def _files(distribution: str) -> tuple[str, ...]:
    """Return the topmost files and folders of an installed distribution."""
    found = importlib.metadata.distribution(distribution)
    tops: dict[str, None] = {}
    for file in found.files or ():
        if file.parts[0] != ".." and not file.is_absolute():
            tops["/".join(file.parts[:2]) if file.parts[0] == "__pycache__" else file.parts[0]] = None
    return tuple(str(found.locate_file(top)) for top in tops)


def _hidden(folders: Iterable[str], read: Iterable[str]) -> dict[str, str]:
    """Return the packages in these folders that are not allowed, by the name that is imported."""
    allowed = {os.path.realpath(path) for path in read}
    found: dict[str, str] = {}
    for folder in folders:
        if folder not in map(os.path.realpath, sys.path):
            continue
        for entry in os.scandir(folder):
            name = entry.name.partition(".")[0]
            package = entry.is_dir() or entry.name.endswith((".py", ".so"))
            if (
                package
                and name.isidentifier()
                and name != "__pycache__"
                and os.path.realpath(entry.path) not in allowed
            ):
                found.setdefault(name, entry.path)
    visible = {os.path.basename(path).partition(".")[0] for path in allowed}
    return {name: path for name, path in found.items() if name not in visible}


def _environment_of(command: str) -> list[str]:
    """Return a program, and the virtual environment that it is the interpreter of."""
    folder = Path(command).parent
    if (folder.parent / "pyvenv.cfg").is_file():
        return [str(folder.parent), os.path.dirname(os.path.dirname(os.path.realpath(command)))]
    return [command, os.path.realpath(command)]


def _expanded(pattern: str) -> list[str]:
    return glob.glob(pattern) if "*" in pattern else [pattern] if os.path.exists(pattern) else []
