"""What the web page of a large run costs: until all points are visible, a click, a frame while zooming, server memory.

    python benchmarks/explore_page.py [--births 50000] [--tries 5] [--out benchmarks/results/explore_page.json]

Drives Chromium through Playwright on loopback. Times are milliseconds of the page's own clock, from navigation, from
the pointer going down, and from a turn of the wheel to the painted frame; medians of the tries.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "explore"))

import browser  # noqa: E402  the browser tests' own way of serving and visiting

VISIBLE_MS, CLICK_MS, SERVER_BYTES = 2000, 200, 500 << 20
CLICKED = "document.querySelector('#panel').dataset.drawn - window.clickedAt"
PAINTED = "Number(document.querySelector('.plot').dataset.painted)"
FRAMES = """(async () => {
  const plot = document.querySelector('.plot'), times = [];
  for (let k = 0; k < 20; k++) {
    const before = plot.dataset.painted, began = performance.now();
    const turn = {deltaY: k % 2 ? 90 : -100, clientX: 700, clientY: 600, cancelable: true};
    plot.dispatchEvent(new WheelEvent('wheel', turn));
    while (plot.dataset.painted === before) await new Promise(requestAnimationFrame);
    times.push(performance.now() - began);
  }
  return times;
})()"""


def measure(served: browser.Served, tries: int) -> dict[str, float]:
    """Visit the tree so many times; return medians."""
    visible, clicks, frames = [], [], []
    with browser.chromium() as opened:
        for attempt in range(tries):
            with browser.visiting(opened) as (page, _):
                browser.ready(page, f"{served.address}tree")
                page.wait_for_selector(".plot[data-edges]", timeout=60_000)
                frames += page.evaluate(FRAMES)
            with browser.visiting(opened) as (page, _):
                browser.ready(page, f"{served.address}tree")
                page.wait_for_selector(".plot[data-painted]")
                visible.append(page.evaluate(PAINTED))
                page.wait_for_selector(".plot[data-edges]", timeout=60_000)
                box = page.locator(".plot").bounding_box()
                assert box is not None
                page.mouse.click(300 + 40 * attempt, box["y"] + 66)
                page.wait_for_selector("#panel[data-drawn]", state="attached")
                clicks.append(page.evaluate(CLICKED))
    return {
        "visible_ms": round(statistics.median(visible)),
        "click_ms": round(statistics.median(clicks)),
        "frame_ms": round(statistics.median(frames)),
        "server_bytes": served.resident_bytes(),
    }


def main() -> None:
    """Make a lineage, measure, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--births", type=int, default=50_000)
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = browser.synthetic_lineage().make(Path(scratch) / "synthetic", arguments.births)
        with browser.serving(folder) as served:
            figures: dict[str, float] = {
                "births": arguments.births,
                "load": round(os.getloadavg()[0], 1),
                **measure(served, arguments.tries),
            }
    figures["visible / limit"] = round(figures["visible_ms"] / VISIBLE_MS, 2)
    figures["click / limit"] = round(figures["click_ms"] / CLICK_MS, 2)
    figures["server memory / limit"] = round(figures["server_bytes"] / SERVER_BYTES, 2)
    print(json.dumps(figures, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
