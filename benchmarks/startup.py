"""How long an experiment takes from its submission to its first batch: cold once for each slot, then warm.

    python benchmarks/startup.py [--experiments 15] [--output benchmarks/results/startup.json]

The experiments are the seed model's; each trains for 0.2 s. Prepare the data first. "warm" is from the call of
`Supervisor.run` to the first batch, "turnaround" all that an experiment takes besides training.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import time
from pathlib import Path

from autoresearch_ray.training.supervisor import Supervisor, SupervisorSettings
from autoresearch_ray.variant import Experiment, Result, Status

ROOT = Path(__file__).resolve().parent.parent


def measure(data: Path, experiments: int) -> dict[str, object]:
    source = (ROOT / "seed_model" / "train.py").read_text(encoding="utf-8")
    settings = SupervisorSettings(data=data, prepare=ROOT / "seed_model" / "prepare.py", train_seconds=0.2)
    warm, turnaround = [], []
    begun = time.monotonic()
    with Supervisor(settings) as supervisor:
        supervisor.warm_up()
        cold = time.monotonic() - begun
        for seed in range(experiments):
            started = time.monotonic()
            *_, result = supervisor.run(Experiment("seed-0", "seed", source, seed))
            if not isinstance(result, Result) or result.status is not Status.COMPLETED:
                raise SystemExit(f"experiment {seed} did not complete: {result}")
            warm.append(result.startup_seconds)
            turnaround.append(time.monotonic() - started - result.train_seconds)
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "experiments": experiments,
        "cold_seconds": round(cold, 3),
        "warm_median_seconds": round(statistics.median(warm), 4),
        "warm_longest_seconds": round(max(warm), 4),
        "turnaround_median_seconds": round(statistics.median(turnaround), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=15)
    parser.add_argument("--data", type=Path, help="a prepared folder; by default the one prepared last")
    parser.add_argument("--output", type=Path, help="also write the figures there, as JSON")
    options = parser.parse_args()
    cache = Path(os.environ.get("AUTORESEARCH_CACHE") or "~/.cache/autoresearch-ray").expanduser()
    data = options.data or Path((cache / "data" / "latest").read_text(encoding="utf-8").strip())
    figures = measure(data, options.experiments)
    for name, value in figures.items():
        print(f"{name:<26} {value}")
    if options.output:
        options.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
