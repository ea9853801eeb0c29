from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from autoresearch_ray.config import Config
from autoresearch_ray.errors import DataError, SupervisionError
from autoresearch_ray.training import confinement, slot_folder
from autoresearch_ray.training.card import Cards
from autoresearch_ray.training.confinement import Confinement, demand, sandbox_of, share_of_memory
from autoresearch_ray.training.limits import crowd, flood
from autoresearch_ray.training.sandbox.promises import PROMISES, Promise
from autoresearch_ray.training.sandbox.settings import OFF, SandboxSettings
from autoresearch_ray.training.sandbox.walls import Plan

REQUIRED = SandboxSettings(level="required", memory_bytes=1 << 30)
FINE = {"found": {}, "missing": {}, "watched_memory": False}


def test_a_configuration_becomes_walls(tmp_path: Path) -> None:
    limits = {"peak_memory_gb": 2, "scratch_gb": 0.5, "processes": 99, "open_files": 88, "output_mb": 3}
    config = Config(sandbox="required", readable=(tmp_path,), limits=limits, num_cpus=2)  # type: ignore[arg-type]
    made = sandbox_of(config)
    assert (made.level, made.readable, made.memory_bytes) == ("required", (tmp_path,), 2 << 30)
    assert (made.scratch_bytes, made.processes, made.open_files, made.output_bytes) == (1 << 29, 99, 88, 3 << 20)
    assert (made.slot_cpus, made.gpu_fraction) == (2, 1.0)
    assert sandbox_of(Config()).level == "best_effort"
    gpu = sandbox_of(Config(num_gpus=0.5, limits={"peak_memory_gb": 2}))  # type: ignore[arg-type]
    assert (gpu.memory_bytes, gpu.gpu_fraction) == (None, 0.45)
    with pytest.raises(DataError, match="nowhere does not exist"):
        sandbox_of(Config(readable=(tmp_path / "nowhere",)))


def test_a_plan_survives_the_way_to_the_launcher(tmp_path: Path) -> None:
    plan = Confinement(REQUIRED).plan(tmp_path)
    assert plan is not None
    assert Plan.from_json(plan.to_json()) == plan
    assert (plan.required, plan.memory_bytes, plan.cuda) == (True, 1 << 30, False)
    assert Confinement(OFF).plan(tmp_path) is None


def test_required_demands_every_promise() -> None:
    assert all(promise.held for promise in Confinement(REQUIRED).promises(FINE))
    broken = {**FINE, "found": {"network": ["connected by TCP"]}, "missing": {"seccomp": "an old kernel"}}
    with pytest.raises(
        SupervisionError, match=r"1 of its promises: network \(a variant connected by TCP; seccomp: an old"
    ):
        Confinement(REQUIRED).promises(broken)
    kept = Confinement(SandboxSettings(level="best_effort")).promises(broken)
    assert [promise.name for promise in kept if not promise.held] == ["network"]
    assert Confinement(OFF).promises(None) == ()
    demand([Promise("network", True)])


def test_memory_that_is_only_watched_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confinement, "open_cards", lambda: None)
    watched = {**FINE, "watched_memory": True}
    by = {p.name: p.by for p in Confinement(REQUIRED).promises(watched)}
    assert by["memory"] == ("limits", "watch")
    best = SandboxSettings(level="best_effort", slot_gpus=0.5)
    gpu = {p.name: p for p in Confinement(best, "cuda").promises(watched)}
    assert gpu["memory"].by == ("watch",)
    assert not gpu["gpu_memory"].held
    assert set(gpu) == set(PROMISES)
    assert "gpu_memory" not in by


def test_where_there_are_no_walls_no_promise_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confinement, "LINUX", False)
    best = Confinement(SandboxSettings(level="best_effort"))
    assert best.plan(tmp_path) is None
    assert not any(promise.held for promise in best.promises(None))
    with pytest.raises(SupervisionError, match="the walls are Linux's"):
        Confinement(REQUIRED).promises(None)


def test_a_slots_share_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confinement, "CONTAINERS_MEMORY", ())
    sizes = {"SC_PHYS_PAGES": 100 << 18, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr("glob.glob", lambda _: ["/dev/nvidia0", "/dev/nvidia1"])
    assert share_of_memory(0, 0) == share_of_memory(9, 0) == int(0.9 * (100 << 30))
    assert share_of_memory(1, 0) == int(0.9 * (25 << 30))
    assert share_of_memory(0.01, 0) == 1 << 30
    assert share_of_memory(8, 0.5) == int(0.9 * (25 << 30))


@pytest.mark.parametrize(("limit", "bytes_"), [("max", 100 << 30), (f"{8 << 30}", 8 << 30), (f"{2**63}", 100 << 30)])
def test_a_container_has_the_memory_that_it_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, bytes_: int
) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 100 << 18, "SC_PAGE_SIZE": 4096}.__getitem__)
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    monkeypatch.setattr(confinement, "CONTAINERS_MEMORY", (tmp_path / "memory.max", tmp_path / "missing"))
    assert confinement.machine_memory() == bytes_


def test_a_flood_and_a_crowd_end_a_variant() -> None:
    assert flood(REQUIRED.output_bytes, REQUIRED) is None
    verdict = flood(REQUIRED.output_bytes + 1, REQUIRED)
    assert verdict is not None
    assert verdict.reason == "printed more than 64 MB: limits.output_mb"
    assert flood(1 << 60, OFF) is crowd(1 << 20, 1 << 20, OFF) is crowd(400, 100, REQUIRED) is None
    for crowded in (crowd(500, 0, REQUIRED), crowd(1, 101, REQUIRED)):
        assert crowded is not None
        assert "starts processes without end" in crowded.reason
        assert "limits.processes" in crowded.reason


class Nvml:
    """Two cards; process 7 holds 3 bytes on the first and 4 on the second."""

    used = ({7: 3, 8: 100}, {7: 4, 9: (1 << 64) - 1})

    def nvmlDeviceGetCount_v2(self, count: object) -> int:
        count._obj.value = 2  # type: ignore[attr-defined]
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: object, device: object) -> int:
        device._obj.value = index.value + 1  # type: ignore[attr-defined]
        return 0

    def nvmlDeviceGetMemoryInfo(self, device: object, memory: object) -> int:
        memory._obj.total = device.value * 80  # type: ignore[attr-defined]
        return 0

    def nvmlDeviceGetComputeRunningProcesses_v3(self, device: object, count: object, found: object) -> int:
        held = self.used[device.value - 1]  # type: ignore[attr-defined]
        for entry, (pid, used) in zip(found, held.items(), strict=False):  # type: ignore[call-overload]
            entry.pid, entry.used = pid, used
        count._obj.value = len(held)  # type: ignore[attr-defined]
        return 0


def test_what_processes_hold_of_all_cards() -> None:
    cards = Cards(Nvml())
    assert cards.smallest == 80
    assert (cards.held_by({7}), cards.held_by({9}), cards.held_by(())) == (7, 0, 0)


def test_folders_of_dead_slots_are_deleted_and_no_others(tmp_path: Path) -> None:
    living, dead = slot_folder.make(tmp_path), slot_folder.make(tmp_path)
    young = slot_folder.make(tmp_path)
    (dead.path / "left").mkdir()
    other = tmp_path / "autoresearch-of-somebody"
    other.mkdir()
    for made in (dead, young):
        os.close(made.lock)
    for folder in (living.path, dead.path, other):
        os.utime(folder, (1, 1))
    slot_folder.sweep(tmp_path)
    assert set(tmp_path.iterdir()) == {living.path, young.path, other}
    assert living.path.stat().st_mode & 0o777 == 0o711
    fcntl.flock(living.lock, fcntl.LOCK_UN)
    os.close(living.lock)
