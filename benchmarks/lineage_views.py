"""What looking at a large lineage costs: opening, tree, path, best and the ten questions of docs/lineage.md.

    python benchmarks/lineage_views.py [--births 300000] [--folder DIR] [--out benchmarks/results/lineage_views.json]

Each view runs in a process of its own, as a command does. Seconds are of the wall clock, imports included,
and CPU seconds beside them: where other work runs too, only these say something.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {
    "tree": ["lineage", "tree"],
    "path of the best": ["lineage", "path", "best"],
    "best": ["lineage", "best"],
    "show the best": ["lineage", "show", "best"],
}
LIMIT_SECONDS, LIMIT_BYTES, LIMIT_QUESTION = 3.0, 1 << 30, 1.0


def command(arguments: list[str], folder: Path) -> dict[str, float]:
    """Run a command of the program on a run; return its seconds and its peak memory in bytes."""
    started = time.perf_counter()
    code = (
        "import resource, sys; from autoresearch_ray.cli import app; sys.argv[0] = 'arr'\n"
        "try: app.main()\n"
        "finally: used = resource.getrusage(resource.RUSAGE_SELF); "
        "print(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, file=sys.stderr)"
    )
    program = [sys.executable, "-c", code, *arguments, str(folder)]
    done = subprocess.run(program, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    cpu, peak = done.stderr.strip().split()[-2:]
    return {"seconds": round(seconds, 2), "cpu_seconds": round(float(cpu), 2), "peak_bytes": int(peak)}


def questions(folder: Path) -> list[dict[str, float | str]]:
    """Ask the documented questions in this process; each opens the run afresh."""
    from autoresearch_ray.explore import sql

    document = (ROOT / "docs" / "lineage.md").read_text(encoding="utf-8")
    timed: list[dict[str, float | str]] = []
    for title, question in re.findall(r"\n([^\n]+):\n\n```sql\n(.*?)```", document, flags=re.DOTALL):
        started, worked = time.perf_counter(), time.process_time()
        rows = len(sql.ask(folder, question).rows)
        seconds, cpu = time.perf_counter() - started, time.process_time() - worked
        timed.append({"question": title, "rows": rows, "seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2)})
    return timed


def main() -> None:
    """Make a lineage if none is named, measure, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--births", type=int, default=300_000)
    parser.add_argument("--folder", type=Path, help="a run; default: a synthetic one")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder
        if folder is None:
            from synthetic_lineage import make

            folder = make(Path(scratch) / "synthetic", arguments.births)
        views = {name: command(words, folder) for name, words in COMMANDS.items()}
        asked = questions(folder)
    peak = max(view["peak_bytes"] for view in views.values())
    figures = {
        "births": arguments.births,
        "load": round(os.getloadavg()[0], 1),
        "cores": os.cpu_count(),
        "views": views,
        "questions": asked,
        "asking_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "slowest view / limit": round(max(view["seconds"] for view in views.values()) / LIMIT_SECONDS, 2),
        "most memory / limit": round(peak / LIMIT_BYTES, 2),
        "slowest question / limit": round(max(float(each["seconds"]) for each in asked) / LIMIT_QUESTION, 2),
    }
    print(json.dumps(figures, indent=1, ensure_ascii=False))
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
