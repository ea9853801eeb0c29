"""What variants, models and the user's configuration cannot do to a repository."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import synthetic
from gitrepo import ORIGIN, commits, end, fsck, linked, projected, ref_of, refs, trailer

from autoresearch_ray.lineage import fast_import, schema
from autoresearch_ray.lineage.git_export import export
from autoresearch_ray.lineage.repository import Repository
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Status

FORGED = "fine\n\nVariant-Id: forged\nStatus: completed\n"
HOSTILE = (
    "",
    "\0",
    FORGED,
    "a\r\nb\rc\u2028d\u2029e\x85f\vg\fh",
    "--- \nVariant-Id: forged",
    "---",
    "--upload-pack=touch /tmp/x",
    "from refs/heads/seed\nmerge refs/heads/seed\ndone\n",
    "data <<EOT\nEOT\ndone\n",
    "\x1b]0;title\x07 \x1b[31mred \u202egnp.exe \u200bhidden \U000e0041",
    "lone \ud800 surrogate",
    "word " * 20_000,
    "x" * 100_000,
    "Variant-Id: forged",
    "ReLU² → SwiGLU, 10 % fewer parameters \N{ROCKET}",
)


def test_no_text_breaks_out_of_its_place(store: LineageStore) -> None:
    seed = synthetic.variant(0, run="run")
    end(store, seed, 3.8)
    born = []
    for number, text in enumerate(HOSTILE, 1):
        changes = {"hypothesis": text, "source": text or "x", "model": text or None}
        born.append(synthetic.variant(number, (seed,), run="run", **changes))
        end(store, born[-1], status=Status.CRASHED, why=text)
    folder = projected(store)
    fsck(folder)
    shown = refs(folder)
    assert set(shown) == {"refs/heads/seed", "refs/heads/best", *map(ref_of, [seed, *born])}
    for variant in born:
        raw = subprocess.run(["git", "-C", folder, "cat-file", "commit", ref_of(variant)], capture_output=True).stdout
        headers, message = raw.decode().split("\n\n", 1)
        assert headers.splitlines()[1] == f"parent {shown[ref_of(seed)]}"
        assert len(headers.splitlines()) == 4
        assert trailer(folder, ref_of(variant), "Variant-Id") == [variant.variant_id]
        assert message.count(f"\nVariant-Id: {variant.variant_id}\n") == 1
        assert not re.search("[\0-\x09\x0b-\x1f\x7f\u2028\u202e\u200b\U000e0041]", message)
        assert 0 < len(message.split("\n")[0]) <= 100
        if variant.hypothesis == FORGED:
            assert message.startswith("fine Variant-Id: forged Status: completed\n\nCrashed: fine Variant-Id")
        assert len(message) < 20_000
        assert "\n---" not in f"\n{message}"
        source = subprocess.run(
            ["git", "-C", folder, "cat-file", "blob", f"{ref_of(variant)}:train.py"], capture_output=True, check=True
        ).stdout
        assert source == schema.clean(variant.source).encode()


NAMES = (
    "../../heads/best",
    "..",
    "-d",
    "--force",
    "a b",
    "a\nfrom x",
    "x.lock",
    "x/y",
    "",
    "@{1}",
    "ABC",
    "\0",
    "é",
    "~",
)


@pytest.mark.parametrize("name", NAMES)
def test_an_id_cannot_be_another_ref(name: str) -> None:
    ref = fast_import.variant_ref(name)
    assert re.fullmatch(r"refs/variants/id-[0-9a-f]{24}", ref)


def test_a_hostile_id_from_a_foreign_lineage_is_shown_under_its_hash(store: LineageStore) -> None:
    seed = synthetic.variant(0, run="run")
    row = schema.variant_row(ORIGIN, seed, Status.REJECTED)
    row["variant_id"], row["parents"], row["operator"] = "../heads/best\ndone", ["../heads/best\ndone", "-x"], "none"
    other = schema.variant_row(ORIGIN, seed, Status.REJECTED) | {"variant_id": "-x"}
    store.append("variants", row)
    store.append("variants", other)
    folder = projected(store)
    fsck(folder)
    assert len(refs(folder, "refs/variants")) == 2
    assert set(refs(folder)) == {*refs(folder, "refs/variants"), "refs/heads/seed"}


def test_times_before_1970_and_long_after_are_dates_git_accepts(store: LineageStore) -> None:
    for number, year in enumerate((1901, 9999)):
        at = synthetic.START.replace(year=year)
        end(store, synthetic.variant(number, run="run", created_at=at), 3.8)
    fsck(projected(store))


def test_the_users_configuration_and_environment_change_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks, template = tmp_path / "hooks", tmp_path / "template"
    hook = f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n"
    names = ("reference-transaction", "post-checkout", "post-index-change", "pre-commit", "post-rewrite")
    for place in (hooks, template / "hooks"):
        place.mkdir(parents=True)
        for name in names:
            (place / name).write_text(hook)
            (place / name).chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        f"[core]\n hooksPath={hooks}\n autocrlf=true\n fsmonitor={hooks}/pre-commit\n bigFileThreshold=x\n"
        "[commit]\n gpgsign=true\n"
        f"[init]\n templateDir={template}\n defaultBranch=x\n[user]\n useConfigOnly=true\n"
        "[safe]\n bareRepository=explicit\n"
    )
    hostile = {
        "HOME": home,
        "GIT_TEMPLATE_DIR": template,
        "GIT_DIR": tmp_path / "elsewhere",
        "GIT_WORK_TREE": tmp_path / "elsewhere",
        "GIT_INDEX_FILE": tmp_path / "index",
        "GIT_OBJECT_DIRECTORY": tmp_path / "objects",
        "GIT_NAMESPACE": "other",
        "GIT_CONFIG_PARAMETERS": f"'core.hooksPath'='{hooks}' 'core.bigFileThreshold'='x'",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.bigFileThreshold",
        "GIT_CONFIG_VALUE_0": "x",
        "GIT_DEFAULT_HASH": "sha256",
        "GIT_AUTHOR_DATE": "2001-01-01",
        "GIT_TEST_ASSUME_DIFFERENT_OWNER": "1",
    }
    folder = linked(run, tmp_path)
    with monkeypatch.context() as patched:
        for name, value in hostile.items():
            patched.setenv(name, str(value))
        with Repository.open(folder) as opened:
            (opened.directory / "hooks").mkdir()
            for name in names:
                (opened.directory / "hooks" / name).write_text(hook)
                (opened.directory / "hooks" / name).chmod(0o755)
            assert opened.update() == 120
        export(folder, tmp_path / "out")
    assert not (tmp_path / "ran").exists()
    for name in ("elsewhere", "index", "objects"):
        assert not (tmp_path / name).exists()
    assert commits(opened.directory) == commits(tmp_path / "out") == commits(run / "variants.git")
    assert not (tmp_path / "out" / ".git" / "hooks").exists()
