"""The promise of `make run`: evolve with configs/quick.yaml, then score the best and the seed again on fresh seeds.

Prints the minutes taken, how busy the slots were, and by how many standard errors the best is lower than the seed.

    .venv/bin/python benchmarks/quick_run.py [--seeds 3] [--set KEY=VALUE ...]
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "configs" / "quick.yaml"


def arr(*arguments: str) -> dict:
    """Run a command of this environment and return the JSON it prints."""
    command = [sys.executable, "-c", "from autoresearch_ray.cli.app import main; main()", *arguments, "--json"]
    return json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    overrides = [word for each in options.set for word in ("--set", each)]
    arr("prepare", "-c", str(CONFIG), *overrides)
    with tempfile.TemporaryDirectory() as storage:
        started = time.monotonic()
        summary = arr("run", "-c", str(CONFIG), *overrides, "--name", "quick", "--set", f"storage={storage}")
        minutes = (time.monotonic() - started) / 60
        best = arr("lineage", "show", "best", "quick", "--source", "--storage", storage)
        path = Path(storage) / "best.py"
        path.write_text(best["source"])
        score = [arr("score", str(file), "-c", str(CONFIG), *overrides, "--seeds", str(options.seeds)) for file in
                 (ROOT / "seed_model" / "train.py", path)]  # fmt: skip
    seed, champion = score
    error = math.hypot(seed["error"], champion["error"])
    result = {
        "command": " ".join(sys.argv),
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {platform.python_version()}",
        "minutes": round(minutes, 2),
        "experiments": summary["experiments"],
        "busy": round(summary["busy"], 4),
        "births": summary["births"],
        "best_found": summary["best"]["mean"],
        "seed_again": [seed["mean"], seed["error"]],
        "best_again": [champion["mean"], champion["error"]],
        "gain": seed["mean"] - champion["mean"],
        "standard_errors": round((seed["mean"] - champion["mean"]) / error, 1),
        "change": [step["hypothesis"] for step in summary["path"][1:]],
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
