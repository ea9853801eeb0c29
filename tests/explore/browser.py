"""What the browser tests share: a served run, a page that notes every complaint, the synthetic lineages."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDE, NARROW = (1440, 900), (390, 844)
NOTE_CLICKS = "addEventListener('pointerdown', () => { window.clickedAt = performance.now(); }, true);"


@dataclass(frozen=True)
class Served:
    """A run that `explore` serves from a process of its own."""

    address: str
    process: subprocess.Popen[str]

    def resident_bytes(self) -> int:
        """Return the memory of the server's process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmRSS")]
        return int(line.split()[1]) * 1024


@contextlib.contextmanager
def serving(folder: Path, *options: str) -> Iterator[Served]:
    """Serve a run on a free port for as long as the block lasts."""
    command = [sys.executable, "-c", "from autoresearch_ray.cli import app; app.main()", "explore", str(folder)]
    process = subprocess.Popen([*command, "--port", "0", *options], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = next(word for word in line.split() if word.startswith("http://"))
        yield Served(address, process)
    finally:
        process.terminate()
        process.wait(timeout=20)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium; skip, and say so, where there is none."""
    if CHROMIUM is None:
        pytest.skip("NO BROWSER: chromium is not installed, so no view of the web page is tested (make browser)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def visiting(browser: Browser, size: tuple[int, int] = WIDE, theme: str = "light") -> Iterator[tuple[Page, list[str]]]:
    """Open a page; whatever the browser complains of, and every dialog, is noted in the list."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=theme)  # type: ignore[arg-type]
    complaints: list[str] = []
    page.add_init_script(NOTE_CLICKS)
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: complaints.append(request.url) if "//127.0.0.1:" not in request.url else None)
    try:
        yield page, complaints
    finally:
        page.close()


def ready(page: Page, address: str) -> None:
    """Go to an address and wait until its view has drawn."""
    page.goto(address)
    page.wait_for_selector("html[data-ready]")


def until(page: Page, expression: str, seconds: float = 15.0) -> None:
    """Wait until an expression holds; the page's policy forbids the browser to poll it by itself."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(30)


def synthetic_lineage() -> ModuleType:
    """Return benchmarks/synthetic_lineage.py."""
    spec = importlib.util.spec_from_file_location("synthetic_lineage", ROOT / "benchmarks" / "synthetic_lineage.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
