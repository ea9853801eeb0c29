"""What a person must know of one machine before variants run on it: its software, its room, its sandbox.

Runs on every node of a cluster, and knows nothing of Ray but its version. Does not own the promises (training/sandbox).
"""

from __future__ import annotations

import getpass
import importlib.metadata
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from autoresearch_ray.errors import AutoresearchError, DataError
from autoresearch_ray.training.card import open_cards
from autoresearch_ray.training.confinement import Confinement, machine_memory
from autoresearch_ray.training.data import open_data
from autoresearch_ray.training.launching import check_sandbox
from autoresearch_ray.training.sandbox.promises import Promise

LEAST_FREE_BYTES = 2 << 30
"""A disk with less is soon full of logs and journals."""


@dataclass(frozen=True, slots=True)
class Question:
    """What to look for on a node; small enough to be sent there."""

    confinement: Confinement
    data: Path | None
    """The prepared folder, None where a program brings its own."""
    data_hash: str | None
    """What it must hold; None where it is not prepared."""
    data_advice: str = ""
    """Why it is not prepared, and what to do."""
    written: tuple[Path, ...] = ()
    """Folders that a run writes to on that node."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    good: bool
    says: str
    advice: str = ""
    """What to do; empty when it is good."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What one node has and keeps."""

    node: str
    findings: tuple[Finding, ...]
    promises: tuple[Promise, ...]
    """What became of each promise of the sandbox; empty when it could not be tried (a finding says why)."""

    @property
    def keeps_all(self) -> bool:
        """Whether `sandbox: required` would start here."""
        return bool(self.promises) and all(promise.held for promise in self.promises)


def examine(question: Question) -> Examination:
    """Look at this machine, and try every promise of the sandbox on it; takes a second or two."""
    findings = [_system(), _python(), _torch(question), _package("ray", "Ray"), _git(), _memory(question)]
    findings += [_gpu(question), *map(_folder, (Path(tempfile.gettempdir()), *question.written)), _data(question)]
    try:
        promises = check_sandbox(question.confinement)
    except AutoresearchError as error:
        promises = ()
        findings.append(Finding("sandbox", False, "cannot be tried", str(error)))
    return Examination(platform.node(), tuple(findings), promises)


def _system() -> Finding:
    user = "root" if os.geteuid() == 0 else f"{getpass.getuser()}, an ordinary user"
    linux = platform.system() == "Linux"
    advice = "" if linux else "The sandbox needs Linux; variants run without walls here."
    return Finding("system", linux, f"{platform.system()} {platform.release()}, {platform.machine()}; {user}", advice)


def _python() -> Finding:
    return Finding("Python", True, platform.python_version())


def _torch(question: Question) -> Finding:
    found = _package("torch", "torch")
    if found.good and question.confinement.device == "cuda" and "+cpu" in found.says:
        return Finding(
            "torch", False, found.says, "This build has no CUDA: install torch's CUDA build for num_gpus > 0."
        )
    return found


def _package(name: str, shown: str) -> Finding:
    try:
        return Finding(shown, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(shown, False, "not installed", "Run `make install`, the same checkout on every node.")


def _git() -> Finding:
    path = shutil.which("git")
    if path is None:
        return Finding("git", False, "not found", "Install git: without it a run has no repository of its variants.")
    told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    return Finding("git", True, told.strip().removeprefix("git version "))


def _memory(question: Question) -> Finding:
    total = machine_memory()
    share = question.confinement.memory_bytes
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    says = f"{threads} CPU threads, {total / 2**30:.1f} GiB of memory, {share / 2**30:.1f} GiB for one variant"
    return Finding("room", share <= total, says, "" if share <= total else "Lower limits.peak_memory_gb.")


def _gpu(question: Question) -> Finding:
    cards = open_cards()
    names = cards.names if cards else ()
    if names:
        driver = f", driver {cards.driver}" if cards and cards.driver else ""
        return Finding("GPU", True, f"{', '.join(dict.fromkeys(names))} ({len(names)}){driver}")
    if question.confinement.device == "cuda":
        return Finding(
            "GPU", False, "none found", "Install NVIDIA's driver (nvidia-smi must work), or set num_gpus to 0."
        )
    return Finding("GPU", True, "none; the CPU trains")


def _folder(folder: Path) -> Finding:
    """Return whether a folder, or the one that it would be made in, can be written and has room."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    says = f"{free / 2**30:.1f} GiB free"
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding(
            str(folder), False, "cannot be written", f"Give {getpass.getuser()} the right to write to {place}."
        )
    if free < LEAST_FREE_BYTES:
        return Finding(str(folder), False, says, "Make room: at least 2 GiB should be free.")
    return Finding(str(folder), True, says)


def _data(question: Question) -> Finding:
    if question.data is None:
        return Finding("data", True, "the program brings its own (metric: reported)")
    if question.data_hash is None:
        return Finding("data", False, "not prepared", question.data_advice)
    try:
        held = open_data(question.data)
    except DataError as error:
        return Finding("data", False, "not prepared here", str(error))
    if held.data_hash != question.data_hash:
        return Finding("data", False, f"{question.data} holds other data", "Prepare it here again.")
    return Finding("data", True, f"{question.data} ({held.rows['train']:,} rows of {held.sequence_length} tokens)")
