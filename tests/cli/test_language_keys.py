"""An API key in the environment is found nowhere else: not in files, logs, prompts, messages, Ray, or any process."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import llm_server
import pytest

from autoresearch_ray.operators import transcripts

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-c", "from autoresearch_ray.cli.app import main; main()"]
OTHER = "other-secret-9876543210"
RAY_FOLDER = "arr-????????"
"""What a run makes under /tmp for Ray; simulations have longer names."""
SECRETS = (llm_server.KEY.encode(), OTHER.encode())


@pytest.fixture(scope="module")
def server() -> Iterator[llm_server.Server]:
    with llm_server.running(key=True) as server:
        yield server


def environment(marker: Path, key: str = llm_server.KEY) -> dict[str, str]:
    """Keys, and a mark in the PATH, which every process of a run inherits, however it was started."""
    marker.mkdir()
    return {**os.environ, "OPENAI_API_KEY": key, "HF_TOKEN": OTHER, "PATH": f"{marker}:{os.environ['PATH']}"}


def words(server: llm_server.Server, quick: Path) -> list[str]:
    model = '[{"name": "openai/test", "usd_per_million_input": 1, "usd_per_million_output": 1}]'
    keys = {
        "llm.models": model,
        "llm.api_base": server.api_base,
        "llm.parameters_share": "0.3",
        "max_experiments": "12",
        "train_seconds": "0.5",
    }
    settings = [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
    return [*COMMAND, "run", "-c", str(quick), "--name", "keys", *settings]


def marked(marker: Path, besides: int) -> Iterator[tuple[str, bytes]]:
    """Yield command line and environment of all processes with the mark, but of the one that the key was given to."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            seen = Path(f"/proc/{name}/environ").read_bytes()
            line = Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue
        if str(marker).encode() in seen and int(name) != besides:
            yield line.replace(b"\0", b" ").decode(errors="replace"), seen + line


def leaks(folder: Path) -> list[Path]:
    """Return the files below a folder that hold a secret, compressed ones looked into."""
    found = []
    files = [
        Path(place, name) for place, _, names in os.walk(folder) for name in names
    ]  # a vanished folder is no error
    for path in files:
        try:
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        except OSError:
            continue
        if path.suffix == ".gz":
            content += gzip.decompress(content)
        if any(secret in content for secret in SECRETS):
            found.append(path)
    return found


def test_keys_are_nowhere(server: llm_server.Server, quick: Path, tmp_path: Path) -> None:
    subprocess.run([*COMMAND, "prepare", "-c", str(quick)], check=True, capture_output=True)
    server.reset()
    server.script(share=0.2)
    before = set(Path("/tmp").glob(RAY_FOLDER))
    marker = tmp_path / "marker"
    run = subprocess.Popen(
        words(server, quick), env=environment(marker), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    kinds: set[str] = set()
    leaking: list[str] = []
    deadline = time.monotonic() + 240
    while run.poll() is None and time.monotonic() < deadline:
        for line, seen in marked(marker, run.pid):
            kinds |= {kind for kind in ("raylet", "gcs_server", "ray::", "training.launcher") if kind in line}
            leaking += [line for secret in SECRETS if secret in seen]
        folders = set(Path("/tmp").glob(RAY_FOLDER)) - before
        kinds |= {"Ray's folder"} if folders else set()
        leaking += [str(path) for folder in folders for path in leaks(folder)]
        time.sleep(0.2)
    printed, _ = run.communicate(timeout=60)
    assert run.returncode == 0, printed
    assert leaking == []
    assert {"raylet", "gcs_server", "ray::", "training.launcher", "Ray's folder"} <= kinds
    assert not any(secret.decode() in printed for secret in SECRETS)
    folder = tmp_path / "runs" / "keys"
    assert leaks(folder) == []
    assert len(list(transcripts.everything(folder))) > 3
    assert all(secret.decode() not in str(body) for secret in SECRETS for body in server.requests())


def test_a_refused_key_is_not_in_the_message(server: llm_server.Server, quick: Path, tmp_path: Path) -> None:
    subprocess.run([*COMMAND, "prepare", "-c", str(quick)], check=True, capture_output=True)
    wrong = "sk-wrong-0123456789abcdef"
    ended = subprocess.run(
        words(server, quick),
        env=environment(tmp_path / "marker", wrong),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 2
    assert "the key is missing or refused" in ended.stderr
    assert ended.stderr.count("error: ") == 1
    assert wrong not in ended.stdout + ended.stderr
