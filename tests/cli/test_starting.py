import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "lineage"))

import synthetic

from autoresearch_ray import config as configuration
from autoresearch_ray.cli import starting
from autoresearch_ray.errors import UsageError
from autoresearch_ray.lineage import schema
from autoresearch_ray.lineage.query import Lineage
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Status


@pytest.fixture
def settings(quick: Path, tmp_path: Path) -> configuration.Config:
    synthetic.make(tmp_path / "runs" / "nov24", 20)
    return configuration.load(quick, ())


@pytest.mark.parametrize("identity", ["best", "seed"])
def test_the_seed_is_another_runs_program_and_the_rest_stays(settings: configuration.Config, identity: str) -> None:
    lineage = Lineage.open(Path(settings.storage) / "nov24")
    folder = starting.seed_folder(settings, f"nov24:{identity}")
    assert (folder / "train.py").read_text() == lineage.source(lineage.find(identity))
    assert (folder / "prepare.py").read_text() == (settings.seed_model / "prepare.py").read_text()
    assert starting.seed_folder(settings, f"nov24:{identity}") == folder


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        ("nov24", "names no variant"),
        (":best", "names no variant"),
        ("s3://bucket/run", "names no variant"),
        ("nov25:best", "did you mean"),
        ("nov24:zzzz", "near ids"),
    ],
)
def test_what_names_nothing_is_a_sentence(settings: configuration.Config, origin: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        starting.seed_folder(settings, origin)


def test_a_variant_without_a_source_is_refused(settings: configuration.Config, tmp_path: Path) -> None:
    with LineageStore.create(tmp_path / "runs" / "run", "run") as store:
        born = synthetic.variant(0, run="run", source="")
        store.append("variants", schema.variant_row(synthetic.origin(), born, Status.OPERATOR_FAILED, "no"))
    with pytest.raises(UsageError, match="has no source"):
        starting.seed_folder(settings, "run:seed")


def test_a_run_is_planned_from_there(cli, quick: Path, settings: configuration.Config) -> None:
    done = cli("run", "-c", quick, "--from", "nov24:best", "--dry-run")
    assert (done.code, done.err) == (0, "")
    whole = cli("run", "-c", quick, "--from", "nov24", "--dry-run")
    assert (whole.code, whole.err) == (0, "")
    refused = cli("run", "-c", quick, "--from", "nov23", "--dry-run")
    assert refused.code == 2
    assert "nov24" in refused.err  # what there is
