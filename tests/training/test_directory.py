from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from autoresearch_ray.errors import DataError
from autoresearch_ray.training import directory
from autoresearch_ray.training.directory import take


@pytest.fixture
def program(tmp_path: Path) -> Path:
    folder = tmp_path / "program"
    for path in (
        "train.py",
        "prepare.py",
        "lib/util.py",
        "data/big.bin",
        ".git/config",
        ".venv/x",
        "__pycache__/a.pyc",
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    (folder / ".python-version").write_text("3.11")
    (folder / "run.sh").write_text("#!/bin/sh")
    (folder / "run.sh").chmod(0o755)
    return folder


def written(folder: Path, into: Path, **options: object) -> list[str]:
    into.mkdir()
    take(folder, "train.py", **options).write(into)  # type: ignore[arg-type]
    return sorted(str(path.relative_to(into)) for path in into.rglob("*") if not path.is_dir() or path.is_symlink())


def test_small_files_are_copied_and_what_is_made_by_tools_is_not(program: Path, tmp_path: Path) -> None:
    copied = written(program, tmp_path / "copy")
    assert copied == [".python-version", "data/big.bin", "lib/util.py", "prepare.py", "run.sh"]
    assert (tmp_path / "copy" / "lib" / "util.py").read_text() == "lib/util.py"
    assert os.access(tmp_path / "copy" / "run.sh", os.X_OK)
    assert not os.access(tmp_path / "copy" / "prepare.py", os.X_OK)


def test_what_may_be_read_stays_where_it_is(program: Path, tmp_path: Path) -> None:
    copied = written(program, tmp_path / "copy", readable=[program / "data"], excluded=[program / "lib"])
    assert copied == [".python-version", "data", "prepare.py", "run.sh"]
    assert (tmp_path / "copy" / "data").resolve() == program / "data"


def test_links_stay_links_and_lead_where_they_led(program: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("far")
    (program / "near").symlink_to("prepare.py")
    (program / "far").symlink_to("../outside")
    (program / "loop").symlink_to("loop")
    (program / "folder").symlink_to(tmp_path)
    written(program, tmp_path / "copy")
    assert (tmp_path / "copy" / "near").resolve() == tmp_path / "copy" / "prepare.py"
    assert (tmp_path / "copy" / "far").read_text() == "far"
    assert (tmp_path / "copy" / "folder").resolve() == tmp_path


def test_the_evolved_file_is_left_out_even_as_a_link(program: Path, tmp_path: Path) -> None:
    (program / "train.py").unlink()
    (program / "train.py").symlink_to(program / "prepare.py")
    assert "train.py" not in written(program, tmp_path / "copy")


def test_the_digest_is_of_all_but_the_evolved_file(program: Path) -> None:
    first = take(program, "train.py")
    (program / "train.py").write_text("another")
    assert take(program, "train.py") == first
    for change in (
        lambda: (program / "prepare.py").write_text("as long..."),
        lambda: (program / "prepare.py").write_text("another"),
        lambda: (program / "prepare.py").chmod(0o755),
        lambda: (program / "prepare.py").rename(program / "prepared.py"),
        lambda: (program / "link").symlink_to("x"),
    ):
        before = take(program, "train.py")
        change()
        assert take(program, "train.py").digest != before.digest


def test_a_snapshot_travels(program: Path, tmp_path: Path) -> None:
    taken = pickle.loads(pickle.dumps(take(program, "train.py")))
    taken.write(tmp_path)
    assert (tmp_path / "prepare.py").read_text() == "prepare.py"


def test_too_much_is_refused_and_the_largest_named(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (program / "weights.bin").write_bytes(bytes(directory.LARGEST_SNAPSHOT))
    with pytest.raises(DataError, match=r"largest is weights.bin \(16\.0 MB\): list under `readable`"):
        take(program, "train.py")
    assert take(program, "train.py", readable=[program / "weights.bin"]).links[0][0] == "weights.bin"
    (program / "weights.bin").unlink()
    monkeypatch.setattr(directory, "MOST_FILES", 3)
    with pytest.raises(DataError, match="5 files"):
        take(program, "train.py")


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: cannot be read"):
        take(tmp_path / "nowhere", "train.py")
