from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from autoresearch_ray.cluster.trainer import ReportingTrainer, trainer_of
from autoresearch_ray.config import Config, load
from autoresearch_ray.errors import DataError
from autoresearch_ray.variant import Experiment, Result, Status

SOURCE = 'import os\nprint("---")\nprint("acc:", len(os.environ["AUTORESEARCH_SEED"]))\n'


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "solve.py").write_text(SOURCE)
    return tmp_path / "program"


def configured(program: Path, *overrides: str) -> Config:
    return load(
        None, [f"seed_model={program}", "metric={kind: reported, name: acc}", "evolved_file=solve.py", *overrides]
    )


def test_a_program_that_reports_goes_through_the_same_door(program: Path) -> None:
    trainer = pickle.loads(pickle.dumps(trainer_of(configured(program))))  # as Ray sends it
    *_, result = trainer.run(Experiment("x-0", "x", SOURCE, 123), None)
    assert isinstance(result, Result)
    assert (result.status, result.val_bpb, result.verified) == (Status.COMPLETED, 3.0, False)
    with trainer.start() as supervisor:
        *_, result = supervisor.run(Experiment("x-0", "x", SOURCE, 1))
    assert result.val_bpb == 1.0  # type: ignore[union-attr]


def test_the_limits_are_those_of_the_configuration(program: Path) -> None:
    trainer = trainer_of(configured(program, "limits={peak_memory_gb: 0.5, parameters_M: 2}", "startup_seconds=1",
                                    "train_seconds=2", "scoring_seconds=3"))  # fmt: skip
    assert isinstance(trainer, ReportingTrainer)
    assert (trainer.settings.sizes.memory_bytes, trainer.settings.sizes.parameters) == (2**29, 2e6)
    assert trainer.settings.longest_seconds == 6.0
    assert trainer.settings.train_seconds == 2.0


def test_each_share_of_a_gpu_is_a_class_of_its_own(program: Path) -> None:
    classes = [trainer_of(configured(program, f"num_gpus={share}")).class_on("") for share in (1.0, 0.5, 0.25)]
    assert [name.partition(",")[0] for name in classes] == ["cuda", "cuda x0.5", "cuda x0.25"]


def test_scores_are_compared_within_one_surrounding_only(program: Path) -> None:
    first = trainer_of(configured(program))
    (program / "solve.py").write_text("another first variant")
    assert trainer_of(configured(program)).class_on("") == first.class_on("")
    names = {first.class_on("")}
    names.add(trainer_of(configured(program, "command=python -u solve.py")).class_on(""))
    names.add(trainer_of(configured(program, "metric={kind: reported, name: acc, goal: maximize}")).class_on(""))
    names.add(trainer_of(configured(program, "train_seconds=7")).class_on(""))
    (program / "helper.py").touch()
    names.add(trainer_of(configured(program)).class_on(""))
    assert len(names) == 5


def test_the_runs_themselves_are_not_copied(program: Path) -> None:
    trainer = trainer_of(configured(program, f"storage={program}/runs"))
    (program / "runs").mkdir()
    (program / "runs" / "lineage").touch()
    assert trainer_of(configured(program, f"storage={program}/runs")) == trainer


@pytest.mark.parametrize(
    ("override", "says"),
    [("readable=[/no/where]", "readable: /no/where does not exist"), ("seed_model=/no/where", "no such folder")],
)
def test_what_is_missing_is_said(program: Path, override: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        trainer_of(configured(program, override))


def test_a_node_that_lacks_what_may_be_read_says_so(program: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    trainer = trainer_of(configured(program, f"readable=[{tmp_path}/cache]"))
    (tmp_path / "cache").rmdir()
    with pytest.raises(DataError, match="cache is not on this machine"):
        next(trainer.run(Experiment("x-0", "x", SOURCE, 1), None))
