import subprocess
from pathlib import Path

import pytest
import synthetic

from autoresearch_ray.errors import UsageError
from autoresearch_ray.explore import champion
from autoresearch_ray.lineage.query import Lineage
from autoresearch_ray.lineage.store import LineageStore


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def taken(lineage: Lineage, tmp_path: Path) -> champion.Taken:
    return champion.take(lineage, tmp_path / "home")


def test_the_program_and_one_patch_that_git_takes(lineage: Lineage, taken: champion.Taken, tmp_path: Path) -> None:
    assert lineage.champion is not None
    assert lineage.seed is not None
    assert taken.confirmed
    assert (taken.out / "train.py").read_text() == lineage.source(lineage.champion)
    work = tmp_path / "work"
    work.mkdir()
    (work / "train.py").write_text(lineage.source(lineage.seed))
    git(work, "init", "-q")
    git(work, "apply", taken.out / "champion.patch")
    assert (work / "train.py").read_text() == lineage.source(lineage.champion)


def test_a_commit_for_every_idea_on_the_path(lineage: Lineage, taken: champion.Taken) -> None:
    assert lineage.champion is not None
    way = lineage.path(lineage.champion)
    repository = taken.out / "repository"
    assert taken.commits == len(way)
    assert git(repository, "log", "--reverse", "--format=%s", "champion").splitlines() == [
        lineage.hypotheses[place] for place in way
    ]
    for place, sha in zip(way, git(repository, "rev-list", "--reverse", "champion").split(), strict=True):
        assert git(repository, "show", f"{sha}:train.py") == lineage.source(place)
    last = git(repository, "log", "-1", "--format=%B", "champion")
    assert "Change -" in last
    assert "±" in last
    assert f"Variant-Id: {lineage.ids[lineage.champion]}" in last
    assert (repository / "train.py").read_text() == lineage.source(lineage.champion)


def test_the_evidence_names_every_training_and_step(lineage: Lineage, taken: champion.Taken) -> None:
    words = (taken.out / "evidence.html").read_text(encoding="utf-8")
    assert lineage.champion is not None
    for experiment in lineage.experiments(lineage.champion):
        assert f"{experiment['val_bpb']:.6f}" in words
    for place in lineage.path(lineage.champion):
        assert lineage.ids[place][:7] in words
    assert "Confirmed as champion" in words
    assert "holdout" in words


def test_the_best_guess_is_called_unconfirmed(tmp_path: Path) -> None:
    lineage = Lineage.open(synthetic.make(tmp_path / "run", 30, champion=False))
    taken = champion.take(lineage, tmp_path / "home")
    assert not taken.confirmed
    assert "Not confirmed" in (tmp_path / "home" / "evidence.html").read_text(encoding="utf-8")
    assert git(tmp_path / "home" / "repository", "log", "-1", "--format=%D").strip().endswith("best")


@pytest.mark.parametrize(
    ("before", "after"), [("a\nb\n", "a\nc\n"), ("a\nb", "a\nb\n"), ("a", "b"), ("a\x0cb\r\nc\n", "a\x0cb\r\nd\n")]
)
def test_patches_of_odd_ends_of_lines(tmp_path: Path, before: str, after: str) -> None:
    (tmp_path / "train.py").write_bytes(before.encode())
    (tmp_path / "x.patch").write_bytes(champion.patch(before, after).encode())
    git(tmp_path, "init", "-q")
    git(tmp_path, "apply", "--whitespace=nowarn", "x.patch")
    assert (tmp_path / "train.py").read_bytes() == after.encode()


def test_a_full_folder_and_a_run_without_scores_are_refused(lineage: Lineage, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(UsageError, match="not empty"):
        champion.take(lineage, tmp_path)
    with LineageStore.create(tmp_path / "run", "run"):
        pass
    with pytest.raises(UsageError, match="nothing has been scored"):
        champion.take(Lineage.open(tmp_path / "run"), tmp_path / "home")


def test_what_a_challenge_measured_is_said_where_it_is_kept() -> None:
    assert champion._fresh({"posterior_mean": 1.0}) == ""
    said = champion._fresh({"gain": 0.0123, "gain_sd": 0.004, "against": "0123456789ab"})
    assert said == " On fresh seeds it was better than 0123456 by 0.0123 ±0.0040."
