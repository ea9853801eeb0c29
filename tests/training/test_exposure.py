from __future__ import annotations

import importlib.metadata
import json
import shutil
from pathlib import Path

import pytest

from autoresearch_ray.errors import DataError
from autoresearch_ray.training import exposure

PACKAGE = "typer"


def a_source_file() -> Path:
    files = importlib.metadata.files(PACKAGE) or []
    return max(
        (Path(str(file.locate())) for file in files if file.suffix == ".py"), key=lambda path: path.stat().st_size
    )


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of data that were made of a package, in a cache of its own."""
    monkeypatch.setenv("AUTORESEARCH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "data" / "python"
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps({"settings": {"packages": {PACKAGE: "1"}}}))
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home" / "me"
    (folder / ".ssh").mkdir(parents=True)
    (folder / ".cache" / "kernels").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.mark.parametrize("listed", ["", "..", "../..", "kept/link"])
def test_the_home_directory_is_refused_whatever_it_is_called(home: Path, listed: str) -> None:
    (home / "kept").mkdir()
    (home / "kept" / "link").symlink_to(home)
    with pytest.raises(DataError, match="would show variants your home directory"):
        exposure.refuse_private([home / listed], home / "runs")


def test_keys_and_runs_are_refused_and_a_folder_of_home_is_not(home: Path) -> None:
    for listed in (".ssh", ".ssh/id_rsa", ".aws"):
        with pytest.raises(DataError, match="would show variants your keys"):
            exposure.refuse_private([home / listed], home / "work" / "runs")
    for listed in ("work", "work/runs", "work/runs/nov24/lineage"):
        with pytest.raises(DataError, match="would show variants the runs and their lineage"):
            exposure.refuse_private([home / listed], home / "work" / "runs")
    exposure.refuse_private([home / ".cache" / "kernels"], home / "work" / "runs")


def test_prepared_data_are_refused_also_those_of_other_settings(prepared: Path, tmp_path: Path) -> None:
    beside = prepared.parent / "other"
    for listed in (prepared, prepared / "val.bin", beside, tmp_path / "cache", tmp_path):
        with pytest.raises(DataError, match="would show variants what they are scored on"):
            exposure.refuse_scored([listed], prepared, tmp_path / "nowhere")


def test_a_package_of_the_corpus_is_refused_and_another_is_not(prepared: Path, tmp_path: Path) -> None:
    package = a_source_file().parent
    for listed in (package, a_source_file(), package.parent):
        with pytest.raises(DataError, match=r"holds text of the corpus \(.*\.py\)"):
            exposure.refuse_scored([listed], prepared, tmp_path / "nowhere")
    other = Path(pytest.__file__).parent
    exposure.refuse_scored([other], prepared, tmp_path / "nowhere")


def test_a_copy_is_refused_under_any_name(prepared: Path, tmp_path: Path) -> None:
    kernels = tmp_path / "kernels"
    (kernels / "deep").mkdir(parents=True)
    (kernels / "deep" / "fast.cu").write_text("x" * 1000)
    (kernels / "__init__.py").touch()  # as every package of the corpus has one
    exposure.refuse_scored([kernels], prepared, tmp_path / "nowhere")
    shutil.copy(a_source_file(), kernels / "deep" / "table.bin")
    with pytest.raises(DataError, match=r"table\.bin"):
        exposure.refuse_scored([kernels], prepared, tmp_path / "nowhere")
