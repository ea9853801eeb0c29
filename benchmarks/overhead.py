"""What the engine itself costs: a search on Ray whose program only prints its block, each time in its own process.

    python benchmarks/overhead.py [--slots 1 4 8] [--experiments 400] [--profile] [--output results/overhead.json]

One run for each number of slots. Counted is what happens once every slot has run an experiment (Ray starts workers one
after the other, and the first slots run hundreds of experiments meanwhile): experiments a second, CPU time of the whole
process tree by role, and its peak memory (PSS: shared pages once).
"""

from __future__ import annotations

import argparse
import cProfile
import datetime
import json
import os
import platform
import pstats
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from autoresearch_ray import config as configuration
from autoresearch_ray.training import processes
from autoresearch_ray.variant import Result

PROGRAM = """\
import os

LEARNING_RATE = 0.04
WEIGHT_DECAY = 0.2
WARMUP_RATIO = 0.1
DEPTH = 8
BATCH = 64

print("slot", os.getppid())
print("---")
print("val_bpb:          0.997900")
print("training_seconds: 300.0")
print("peak_vram_mb:     45060.2")
print("total_tokens_M:   499.6")
print("num_steps:        953")
print("num_params_M:     50.3")
"""
WARM_UP = 40
"""Experiments before counting begins, at least; and two more a slot once all slots have run one."""
PATIENCE = 4000
"""Experiments in which all slots must have run one."""


def tree(root: int, folder: str) -> list[int]:
    """Return a search's processes: those below `root`, and its launchers, which are nobody's children."""
    below = [root, *processes.descendants(root)]
    launchers = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if is_launcher(pid, folder)]
    return sorted({*below, *launchers, *(pid for launcher in launchers for pid in processes.descendants(launcher))})


def is_launcher(pid: int, folder: str) -> bool:
    words = command_line(pid)
    return "training.launcher" in words and folder in words


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
    except OSError:
        return ""


class Tally:
    """CPU seconds of this process and everything below it, by role."""

    def __init__(self, experiments: int, folder: str) -> None:
        self.experiments = experiments
        self.at = time.monotonic()
        self.main_thread = time.thread_time()
        self.seconds: Counter[str] = Counter()
        for pid in tree(os.getpid(), folder):
            used, name = processes.usage(pid), role(pid, os.getpid())
            if used is not None:
                self.seconds[name] += used.own
                self.seconds["programs" if name == "launchers" else name] += used.reaped

    def since(self, before: Tally) -> dict[str, object]:
        """Return what an experiment has cost from one tally to the next."""
        count, seconds = self.experiments - before.experiments, self.at - before.at
        spent = {name: 1e3 * (self.seconds[name] - before.seconds[name]) / count for name in self.seconds}
        return {
            "experiments": count,
            "experiments_a_second": round(count / seconds, 1),
            "cpu_ms_an_experiment": round(sum(spent.values()), 1),
            "cpu_ms_driver_main_thread": round(1e3 * (self.main_thread - before.main_thread) / count, 1),
            "cpu_ms_by_role": {name: round(spent[name], 1) for name in sorted(spent, key=lambda name: -spent[name])},
        }


def role(pid: int, driver: int) -> str:
    if pid == driver:
        return "driver"
    words = command_line(pid)
    for mark, name in (
        ("training.launcher", "launchers"),
        ("IslandHolder", "islands"),
        ("OperatorDesk", "operators"),
        ("ray::", "workers"),
        ("raylet/raylet", "raylet"),
        ("gcs_server", "gcs"),
    ):
        if mark in words:
            return name
    return "other Ray processes"


def search(slots: int, experiments: int, profile: bool) -> dict[str, object]:
    """Run a search in this process and return what it cost."""
    from autoresearch_ray.cluster.ray import RayCluster
    from autoresearch_ray.cluster.slots import Slot
    from autoresearch_ray.cluster.trainer import trainer_of
    from autoresearch_ray.evolution.driver import Driver
    from autoresearch_ray.evolution.stopping import Stop
    from autoresearch_ray.lineage.schema import Origin
    from autoresearch_ray.lineage.store import LineageStore
    from autoresearch_ray.training.preflight import inspector

    tallies: list[Tally] = []
    slots_seen: set[str] = set()
    begin_at = WARM_UP

    def watch(driver: Driver) -> None:
        nonlocal begin_at
        done = driver.ledger.spent.experiments
        if not tallies:
            before = len(slots_seen)
            slots_seen.update(launcher_of(ended.result) for ended in driver.ended if ended.result is not None)
            if len(slots_seen) > before:
                begin_at = max(begin_at, done + 2 * slots)
            if len(slots_seen) >= slots and done >= begin_at:
                tallies.append(Tally(done, tempfile.gettempdir()))
        elif len(tallies) == 1 and done >= tallies[0].experiments + experiments:
            tallies.append(Tally(done, tempfile.gettempdir()))
            driver.drain(Stop("asked", "enough was counted"))

    folder = Path(tempfile.gettempdir())
    program = folder / "program"
    program.mkdir()
    (program / "train.py").write_text(PROGRAM, encoding="utf-8")
    settings = [f"seed_model={program}", "metric=reported", f"storage={folder}/runs", "name=overhead"]
    settings += [f"num_cpus={(os.cpu_count() or 1) / slots}", f"max_slots={slots}"]
    settings += [f"max_experiments={PATIENCE + experiments}"]
    config = configuration.load(None, settings)
    trainer = trainer_of(config)
    origin = Origin(run="overhead", hardware_class=trainer.class_on(""), data_hash=trainer.data_hash)
    with (
        RayCluster(trainer, Slot(config.num_cpus, config.num_gpus), max_slots=config.max_slots) as cluster,
        LineageStore.create(folder / "runs" / "overhead", "overhead") as lineage,
    ):
        driver = Driver(config, cluster, lineage, origin, inspect=inspector("train.py", scored=False), watch=watch)
        driver.begin(PROGRAM)
        profiler = cProfile.Profile()
        if profile:
            profiler.runcall(driver.run)
            pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(30)
        else:
            driver.run()
    if len(tallies) < 2:
        raise SystemExit(f"only {len(slots_seen)} of {slots} slots have run an experiment")
    return tallies[1].since(tallies[0])


def launcher_of(result: Result) -> str:
    """Return which launcher an experiment was forked from, as its program printed it."""
    return result.log_tail.partition("\n")[0]


def measure(slots: int, experiments: int, profile: bool) -> dict[str, object]:
    """Run one search in a process of its own, and watch its memory from here."""
    command = [sys.executable, __file__, "--child", "--slots", str(slots), "--experiments", str(experiments)]
    command += ["--profile"] if profile else []
    peak: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        environment = {**os.environ, "TMPDIR": folder}
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        while child.poll() is None:
            now: Counter[str] = Counter()
            for pid in tree(child.pid, folder):
                now[role(pid, child.pid)] += processes.memory([pid])
            peak = max(peak, now, key=lambda each: sum(each.values()))
            time.sleep(0.5)
    assert child.stdout is not None
    if child.returncode:
        raise SystemExit(f"the search with {slots} slots failed")
    memory = {"peak_memory_mb": round(sum(peak.values()) / 1e6)}
    memory_by_role = {name: round(size / 1e6) for name, size in peak.most_common()}
    return {"slots": slots, **json.loads(child.stdout.read()), **memory, "peak_memory_mb_by_role": memory_by_role}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--experiments", type=int, default=400)
    parser.add_argument("--profile", action="store_true", help="print where the driver's time goes (it gets slower)")
    parser.add_argument("--output", type=Path, help="also write the figures there, as JSON")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(search(options.slots[0], options.experiments, options.profile)))
        return
    figures = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_before": os.getloadavg()[0],
        "runs": [measure(slots, options.experiments, options.profile) for slots in options.slots],
    }
    print(json.dumps(figures, indent=2))
    if options.output:
        options.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
