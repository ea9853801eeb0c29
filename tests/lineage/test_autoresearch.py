import subprocess
from pathlib import Path

import pytest

from autoresearch_ray.errors import RunError, UsageError
from autoresearch_ray.lineage import autoresearch
from autoresearch_ray.lineage.query import Lineage

HEAD = "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n"


class Checkout:
    """A checkout of autoresearch in which an agent keeps and discards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[str] = []
        folder.mkdir()
        self.git("init", "-q", "-b", "autoresearch/mar5")
        (folder / "prepare.py").write_text("fixed = 1\n")
        self.commit("x = 0\n", "initial")

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        command = ["git", "-C", self.folder, *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, source: str, subject: str) -> str:
        (self.folder / "train.py").write_text(source)
        self.git("add", "-A")
        self.git("commit", "-qm", subject)
        return self.git("rev-parse", "--short=7", "HEAD")

    def tried(self, sha: str, score: float, status: str, words: str) -> None:
        self.lines.append(f"{sha}\t{score:.6f}\t{44.0 if score else 0.0}\t{status}\t{words}\n")
        (self.folder / "results.tsv").write_text(HEAD + "".join(self.lines))

    def drop(self) -> None:
        self.git("reset", "-q", "--hard", "HEAD~1")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """baseline, a kept change, a discarded one whose commit is still there, one that is gone, a crash, a kept one."""
    made = Checkout(tmp_path / "autoresearch")
    made.tried(made.git("rev-parse", "--short=7", "HEAD"), 0.9979, "keep", "baseline")
    made.tried(made.commit("x = 1\n", "halve batch"), 0.9861, "keep", "halve batch")
    made.tried(made.commit("x = 2\n", "warmup"), 0.9899, "discard", "add 5% warmup")
    made.drop()
    made.tried("abcdef1", 0.9870, "discard", "gone for good")
    made.tried(made.commit("x = 3\n", "crash"), 0.0, "crash", "double width (OOM)")
    made.drop()
    made.tried(made.commit("x = 4\n", "deeper"), 0.9818, "keep", "depth 9")
    return made


def load(checkout: Checkout, out: Path, branch: str | None = None) -> Lineage:
    autoresearch.import_run(checkout.folder, branch, "train.py", out)
    return Lineage.open(out)


@pytest.mark.parametrize("branch", [None, "autoresearch/mar5"])
def test_what_was_tried_becomes_a_lineage(checkout: Checkout, tmp_path: Path, branch: str | None) -> None:
    lineage = load(checkout, tmp_path / "mar5", branch)
    rows = lineage.tables.variants.to_pylist()
    assert [row["hypothesis"] for row in rows] == [
        "baseline", "halve batch", "add 5% warmup", "gone for good", "double width (OOM)", "depth 9",
    ]  # fmt: skip
    assert [row["status"] for row in rows] == ["completed"] * 4 + ["crashed", "completed"]
    ids = lineage.ids
    assert [row["parents"] for row in rows] == [[], [ids[0]], [ids[1]], [ids[1]], [ids[1]], [ids[1]]]
    assert [row["generation"] for row in rows] == [0, 1, 2, 2, 2, 2]
    assert [row["operator"] for row in rows] == ["seed"] + ["mutation"] * 5
    assert [lineage.source(place) for place in range(6)] == ["x = 0\n", "x = 1\n", "x = 2\n", "", "x = 3\n", "x = 4\n"]
    assert [row["hypothesis"] for row in (lineage.row(p) for p in lineage.path(lineage.find("best")))] == [
        "baseline", "halve batch", "depth 9",
    ]  # fmt: skip
    assert lineage.find("best") == 5


def test_nothing_is_verified_and_the_unknown_is_null(checkout: Checkout, tmp_path: Path) -> None:
    lineage = load(checkout, tmp_path / "mar5")
    trainings = lineage.tables.experiments.to_pylist()
    assert [row["verified"] for row in trainings] == [False] * 6
    assert [row["val_bpb"] for row in trainings] == [0.9979, 0.9861, 0.9899, 0.9870, None, 0.9818]
    assert trainings[0]["peak_memory_bytes"] == 44 << 30
    unknown = ("seed", "train_seconds", "startup_seconds", "wall_seconds", "scoring_seconds", "tokens", "steps", "gpu")
    unknown += ("holdout_bpb", "parameters", "started_at", "ended_at")
    assert all(row[name] is None for row in trainings for name in unknown)
    born = lineage.tables.variants.to_pylist()
    assert all(
        row[name] is None for row in born for name in ("seed", "model", "llm_usd", "llm_tokens_in", "prompt_hash")
    )
    assert born[3]["source_hash"] is None
    assert lineage.sigma is None
    assert lineage.champion is None


def test_a_baseline_that_names_no_commit_is_what_the_first_change_was_made_to(
    checkout: Checkout, tmp_path: Path
) -> None:
    text = (checkout.folder / "results.tsv").read_text()
    first = text.splitlines()[1]
    (checkout.folder / "results.tsv").write_text(text.replace(first, "baseline" + first[7:]))
    assert load(checkout, tmp_path / "mar5").source(0) == "x = 0\n"


def test_a_linked_work_tree_is_read_too(checkout: Checkout, tmp_path: Path) -> None:
    checkout.git("worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    (tmp_path / "linked" / "results.tsv").write_text((checkout.folder / "results.tsv").read_text())
    autoresearch.import_run(tmp_path / "linked", "autoresearch/mar5", "train.py", tmp_path / "out")
    assert len(Lineage.open(tmp_path / "out")) == 6


def test_hooks_and_configuration_of_the_checkout_are_not_run(checkout: Checkout, tmp_path: Path) -> None:
    checkout.git("config", "core.fsmonitor", f"touch {tmp_path}/owned; false")
    checkout.git("config", "core.pager", f"touch {tmp_path}/owned")
    checkout.git("config", "diff.external", f"touch {tmp_path}/owned")
    load(checkout, tmp_path / "mar5")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not begin"),
        ("a\tb\n", "does not begin"),
        (HEAD, "no line with the status keep"),
        (HEAD + "abc\t1\t2\n", "line 2 has 3 cells"),
        (HEAD + "abc\t1\t2\tmaybe\tx\n", "status 'maybe'"),
        (HEAD + "abc\tone\t2\tkeep\tx\n", "'one' is not a number"),
    ],
)
def test_a_malformed_table_is_a_sentence(checkout: Checkout, tmp_path: Path, text: str, words: str) -> None:
    (checkout.folder / "results.tsv").write_text(text)
    with pytest.raises(UsageError, match=words):
        load(checkout, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_checkout_or_has_no_such_branch_is_a_sentence(checkout: Checkout, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no branch 'mar6'.*autoresearch/mar5"):
        load(checkout, tmp_path / "out", "mar6")
    with pytest.raises(UsageError, match="no branch"):
        load(checkout, tmp_path / "out", "--output=x")
    (checkout.folder / "results.tsv").rename(tmp_path / "results.tsv")
    with pytest.raises(UsageError, match=r"results\.tsv cannot be read"):
        load(checkout, tmp_path / "out")
    with pytest.raises(UsageError, match="not a git checkout"):
        autoresearch.import_run(tmp_path, None, "train.py", tmp_path / "out")


def test_a_name_that_is_taken_is_refused(checkout: Checkout, tmp_path: Path) -> None:
    load(checkout, tmp_path / "mar5")
    with pytest.raises(RunError, match="holds a run already"):
        load(checkout, tmp_path / "mar5")


@pytest.mark.parametrize(
    ("branch", "name"), [("autoresearch/mar5", "mar5"), (None, "autoresearch"), ("a/..", "imported")]
)
def test_the_name_is_the_end_of_the_branch(tmp_path: Path, branch: str | None, name: str) -> None:
    assert autoresearch.default_name(tmp_path / "autoresearch", branch) == name
