"""What the commits, branches and notes of a lineage say."""

from __future__ import annotations

import subprocess
from datetime import datetime, timezone
from pathlib import Path

import synthetic
from gitrepo import ORIGIN, call, end, fsck, measure, notes, projected, ref_of, refs, trailer

from autoresearch_ray.lineage.query import Lineage
from autoresearch_ray.lineage.repository import Repository
from autoresearch_ray.lineage.schema import event_row
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Operator, Status


def test_each_birth_is_a_commit_with_its_source_its_parents_and_its_date(run: Path) -> None:
    lineage, folder = Lineage.open(run), run / "variants.git"
    shown = refs(folder, "refs/variants")
    assert len(shown) == len(lineage)
    assert {"crashed", "rejected"} <= set(lineage.statuses)
    parents = lineage.column("parents")
    fields = ("refname:lstrip=2", "parent", "tree", "authordate:iso8601-strict", "committerdate:unix", "author")
    form = "%09".join(f"%({field})" for field in fields)
    lines = call(folder, "for-each-ref", f"--format={form}", "refs/variants").splitlines()
    for line in lines:
        name, found, tree, authored, committed, author = line.split("\t")
        position = lineage.find(name)
        assert found.split() == [shown[f"refs/variants/{parent}"] for parent in parents[position]]
        at = lineage.column("created_at")[position].replace(microsecond=0)
        assert authored == at.isoformat()
        assert int(committed) == int(at.timestamp())
        assert author.startswith("autoresearch-ray <autoresearch-ray@localhost>")
        assert call(folder, "ls-tree", "--name-only", tree) == "train.py"
    assert sum(len(line.split("\t")[1].split()) == 2 for line in lines) > 5  # crossovers are merges
    for position in (0, 17, 119):
        blob = subprocess.run(
            ["git", "-C", folder, "cat-file", "blob", f"refs/variants/{lineage.ids[position]}:train.py"],
            capture_output=True,
            check=True,
        ).stdout
        assert blob.decode() == lineage.source(position)


def test_a_strict_fsck_is_clean(run: Path) -> None:
    fsck(run / "variants.git")


def test_branches_are_those_of_the_lineage_and_head_is_the_champion(run: Path) -> None:
    lineage, folder = Lineage.open(run), run / "variants.git"
    wanted = {"seed": lineage.seed, "best": lineage.best(1)[0], "champion": lineage.champion}
    for branch, position in wanted.items():
        assert position is not None
        assert call(folder, "rev-parse", branch) == call(folder, "rev-parse", f"refs/variants/{lineage.ids[position]}")
    assert call(folder, "symbolic-ref", "HEAD") == "refs/heads/champion"
    assert call(folder, "config", "core.bare") == "true"


def test_where_higher_is_better_the_best_is_the_highest(store: LineageStore) -> None:
    at = datetime(2026, 3, 5, tzinfo=timezone.utc)
    store.append("events", event_row(ORIGIN, "started", at, goal="maximize", metric="accuracy"))
    seed = synthetic.variant(0, run="run")
    end(store, seed, 0.80)
    worse, better = (synthetic.variant(number, (seed,), run="run") for number in (1, 2))
    end(store, better, 0.85)
    end(store, worse, 0.70)
    folder = projected(store)
    assert call(folder, "rev-parse", "best") == call(folder, "rev-parse", ref_of(better))
    assert "accuracy 0.8500" in call(folder, "log", "-1", "--format=%B", ref_of(better))
    assert trailer(folder, ref_of(better), "Gain") == ["0.05"]
    assert trailer(folder, ref_of(worse), "Gain") == ["-0.1"]


def test_a_message_says_what_came_of_it(store: LineageStore) -> None:
    seed = synthetic.variant(0, run="run")
    end(store, seed, 3.80)
    measure(store, seed, 3.82, 1)
    child = synthetic.variant(
        1, (seed,), run="run", hypothesis="halve the batch", operator=Operator.MUTATION, model="anthropic/claude-test"
    )
    end(store, child, 3.70)
    failed = synthetic.variant(2, (child,), run="run", hypothesis="double it")
    end(store, failed, status=Status.CRASHED, why="ValueError: no")
    folder = projected(store)
    assert call(folder, "log", "-1", "--format=%B", ref_of(child)) == (
        "halve the batch\n\n"
        "val_bpb 3.7000 ±0.0141 (1 training)\n"
        f"0.1100 ±0.0173 lower than {seed.variant_id[:7]}\n\n"
        f"Variant-Id: {child.variant_id}\nNumber: 1\nParent-Id: {seed.variant_id}\nOperator: mutation\n"
        "Model: anthropic/claude-test\nIsland: 1\nGeneration: 1\nStatus: completed\n"
        "Val-Bpb: 3.7\nVal-Bpb-Error: 0.0141\nTrainings: 1\nGain: 0.11"
    )
    body = call(folder, "log", "-1", "--format=%b", ref_of(failed))
    assert body.startswith("Crashed: ValueError: no\n\nVariant-Id: ")
    assert trailer(folder, ref_of(failed), "Reason") == ["ValueError: no"]
    assert trailer(folder, ref_of(failed), "Val-Bpb") == [""]


def test_a_refused_variant_is_shown_without_the_score_it_cheated_for(store: LineageStore) -> None:
    seed = synthetic.variant(0, run="run")
    end(store, seed, 3.8)
    cheat = synthetic.variant(1, (seed,), run="run")
    end(store, cheat, 0.01, Status.REJECTED, "looks ahead")
    folder = projected(store)
    assert "0.01" not in call(folder, "log", "-1", "--format=%B", ref_of(cheat))
    assert call(folder, "rev-parse", "best") == call(folder, "rev-parse", ref_of(seed))


def test_scores_that_come_later_are_notes_and_change_no_commit(store: LineageStore) -> None:
    seed = synthetic.variant(0, run="run")
    child = synthetic.variant(1, (seed,), run="run")
    end(store, seed, 3.80)
    end(store, child, 3.70)
    folder = projected(store)
    assert call(folder, "symbolic-ref", "HEAD") == "refs/heads/best"
    assert call(folder, "rev-parse", "best") == call(folder, "rev-parse", ref_of(child))
    before = refs(folder, "refs/variants")
    measure(store, child, 3.96, 1)
    assert refs(projected(store), "refs/variants") == before
    assert call(folder, "rev-parse", "best") == before[ref_of(seed)]  # the better score had been luck
    assert notes(folder) == {before[ref_of(child)]: "val_bpb 3.8300 ±0.1300 (2 trainings)"}
    store.append("champions", synthetic.champion_row(ORIGIN, seed.variant_id, 3.8, synthetic.START))
    assert refs(projected(store), "refs/variants") == before
    assert call(folder, "symbolic-ref", "HEAD") == "refs/heads/champion"
    shown = call(folder, "log", "-1", "champion")
    assert "Notes:\n    val_bpb 3.8000 ±0.1838 (1 training)\n    Confirmed as champion at 2025-11-24 21:00 UTC" in shown


def test_an_operator_that_failed_leaves_no_commit_and_no_child_waiting(store: LineageStore) -> None:
    seed = synthetic.variant(0, run="run")
    end(store, seed, 3.8)
    silent = synthetic.variant(1, (seed,), run="run", source="")
    end(store, silent, status=Status.OPERATOR_FAILED, why="no reply")
    folder = projected(store)
    assert list(refs(folder, "refs/variants")) == [ref_of(seed)]


def test_a_child_that_ends_before_its_parents_waits_for_them(store: LineageStore) -> None:
    seed = synthetic.variant(0, run="run")
    child = synthetic.variant(1, (seed,), run="run")
    both = synthetic.variant(2, (child, seed), run="run")
    end(store, both, 3.6)
    end(store, child, 3.7)
    folder = projected(store)
    assert refs(folder) == {}
    with Repository.open(store.folder) as opened:
        assert opened.update() == 0
        end(store, seed, 3.8)
        store.commit()
        assert opened.update() == 3
    shown = refs(folder)
    assert call(folder, "log", "-1", "--format=%P", ref_of(both)).split() == [shown[ref_of(child)], shown[ref_of(seed)]]
    assert shown["refs/heads/best"] == shown[ref_of(both)]


def test_a_long_line_of_waiting_children_is_no_recursion(store: LineageStore) -> None:
    line = [synthetic.variant(0, run="run")]
    for number in range(1, 600):
        line.append(synthetic.variant(number, (line[-1],), run="run"))
    for born in reversed(line):
        end(store, born, 3.0)
    folder = projected(store)
    assert call(folder, "rev-list", "--count", ref_of(line[-1])) == "600"


def test_equal_births_at_one_moment_are_different_commits(store: LineageStore) -> None:
    same = {"source": "x = 1\n", "hypothesis": "the same", "created_at": synthetic.START}
    twins = [synthetic.variant(number, run="run", **same) for number in (0, 2)]
    for twin in twins:
        end(store, twin, 3.8)
    shown = refs(projected(store), "refs/variants")
    assert len(set(shown.values())) == 2
