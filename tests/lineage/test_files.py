import os
from pathlib import Path

import pytest

from autoresearch_ray.errors import StorageError
from autoresearch_ray.lineage import files


def test_content_is_durable_before_it_has_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(b"old")
    happened: list[str] = []

    def fsync(descriptor: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        happened.append(f"sync {name} while {path.read_text()}")

    monkeypatch.setattr(os, "fsync", fsync)
    files.write_atomically(path, b"new")
    assert happened == ["sync manifest.json.tmp while old", f"sync {tmp_path.name} while new"]
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_disk_says_becomes_a_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"the lineage cannot be written .*No such file.*resume"),
        files.translated(tmp_path),
    ):
        files.write_atomically(tmp_path / "missing" / "x", b"")


def test_the_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not files.is_locked(path)
    held = files.lock(path)
    assert path.read_text() == f"{os.getpid()}\n"
    assert files.is_locked(path)
    held.close()
    assert not files.is_locked(path)
    files.lock(path).close()
