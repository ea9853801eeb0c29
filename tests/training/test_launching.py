from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from autoresearch_ray.training.launching import ALLOWED_VARIABLES, Ended, LauncherClient, base_environment
from autoresearch_ray.training.slot_folder import remove
from autoresearch_ray.training.wire import Wire


def test_only_listed_variables_are_passed_on() -> None:
    ours = {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "1", "OPENAI_API_KEY": "sk", "RAY_ADDRESS": "x", "LD_PRELOAD": "y"}
    environment = base_environment(ours, threads=3)
    assert environment["PATH"] == "/bin"
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert environment["OMP_NUM_THREADS"] == environment["MKL_NUM_THREADS"] == "3"
    assert not {"OPENAI_API_KEY", "RAY_ADDRESS", "LD_PRELOAD", "HOME"} & set(environment)


def test_nothing_that_is_listed_sounds_like_a_secret() -> None:
    assert not [name for name in ALLOWED_VARIABLES if any(word in name for word in ("KEY", "TOKEN", "SECRET", "RAY"))]


def test_a_folder_is_removed_however_nested_and_without_following_links(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    (inside / "locked").mkdir()
    (inside / "locked" / "file").touch()
    (inside / "locked").chmod(0)
    here = os.getcwd()
    try:
        os.chdir(inside)
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(here)
    remove(inside)
    assert not inside.exists()
    assert (outside / "file").exists()
    remove(inside)


@pytest.mark.parametrize("name", ["PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME"])
def test_our_python_settings_do_not_reach_the_launcher(name: str) -> None:
    assert name not in base_environment({name: "/somewhere"}, threads=1)


def test_an_end_that_arrives_together_with_the_answer_is_heard(tmp_path: Path) -> None:
    with LauncherClient("nothing", threads=1, scratch=tmp_path) as client:
        client.wait_ready()
        ours, theirs = socket.socketpair()
        with theirs, ours:
            theirs.sendall(b'[{"forked": 7}, 0]\n[{"ended": "variant", "code": 3, "peak_memory_bytes": 5}, 0]\n')
            launcher, client.launcher = client.launcher, Wire(ours)
            assert client.fork({"op": "command"}, ()) == 7
            assert client.ended == Ended(3, 5)
            client.launcher = launcher
    assert list(tmp_path.iterdir()) == []
