from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from fresh_module import load
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoresearch_ray.config import DataConfig

SCRIPT = Path(__file__).parents[2] / "seed_model" / "prepare.py"


def byte_settings(prepare: ModuleType, corpus: object, **changes: object) -> object:
    values = {"tokenizer": "byte", "sequence_length": 32, "val_tokens": 1024, "holdout_tokens": 1024, **changes}
    return prepare.Settings(corpus=str(corpus), **values)


def read(folder: Path, split: str) -> np.ndarray:
    meta = json.loads((folder / "meta.json").read_text())
    return np.fromfile(folder / f"{split}.bin", dtype=np.uint16).reshape(
        meta["rows"][split], meta["sequence_length"] + 1
    )


# --- packing ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(0, 90), min_size=1, max_size=80), T=st.integers(2, 40), buffered=st.integers(1, 50))
def test_packing_loses_only_an_incomplete_row(
    prepare: ModuleType, monkeypatch: pytest.MonkeyPatch, lengths: list[int], T: int, buffered: int
) -> None:
    monkeypatch.setattr(prepare, "BUFFERED_PIECES", buffered)
    bos, packer = 60_000, prepare.Packer(T, 60_000)
    starts = np.cumsum([0, *lengths])
    documents = [np.arange(start, start + n).astype(np.uint16) for start, n in zip(starts[:-1], lengths, strict=True)]
    blocks = [block for document in documents for block in packer.add(document)] + list(packer.flush())
    rows = np.concatenate([np.empty((0, T + 1), np.uint16), *blocks])
    assert rows.dtype == np.uint16
    assert (rows[:, 0] == bos).all()
    kept = rows[rows != bos]
    assert len(np.unique(kept)) == len(kept), "a token was packed twice"
    assert sum(lengths) - len(kept) <= T
    # Within a piece the order of the document is kept: a token follows its predecessor, or BOS.
    follows = (rows[:, 1:] == rows[:, :-1] + 1) | (rows[:, :-1] == bos) | (rows[:, 1:] == bos)
    assert follows.all()


def test_packing_takes_the_largest_piece_that_fits(prepare: ModuleType) -> None:
    packer = prepare.Packer(9, 99)
    for n in (5, 3, 2, 4):  # with BOS 6, 4, 3, 5
        assert not list(packer.add(np.full(n, n, np.uint16)))
    rows = np.concatenate(list(packer.flush()))
    assert rows[0].tolist() == [99, 5, 5, 5, 5, 5, 99, 3, 3, 3]


# --- the folder ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", ["byte", "bpe"])
def test_folder_keeps_the_format(prepare: ModuleType, texts: Path, tokenizer: str) -> None:
    chosen = byte_settings(prepare, texts, tokenizer=tokenizer, vocab_size=300)
    folder, made = prepare.prepare(chosen)
    assert made
    meta = json.loads((folder / "meta.json").read_text())
    assert (meta["format"], meta["tokenizer"], meta["sequence_length"]) == (1, tokenizer, 32)
    assert meta["vocab_size"] == {"byte": 257, "bpe": 300}[tokenizer]
    assert meta["bos_token"] == meta["vocab_size"] - 1
    assert len(meta["data_hash"]) == len(meta["prepare_hash"]) == 64
    sizes = np.load(folder / "token_bytes.npy", allow_pickle=False)
    assert (sizes.dtype, sizes.shape) == (np.int32, (meta["vocab_size"],))
    assert sizes[meta["bos_token"]] == 0
    assert (np.delete(sizes, meta["bos_token"]) > 0).all()
    for split in ("train", "val", "holdout"):
        rows = read(folder, split)
        assert len(rows) >= 1
        assert (rows[:, 0] == meta["bos_token"]).all()
        assert rows.max() < meta["vocab_size"]
    assert len(read(folder, "val")) <= 1024 // 32
    assert (folder / "tokenizer.json").exists() == (tokenizer == "bpe")
    assert folder.name.startswith(f"texts-{tokenizer}-")
    assert (prepare.cache_folder() / "data" / "latest").read_text().strip() == str(folder)


def test_training_rows_hold_the_training_documents(prepare: ModuleType, texts: Path) -> None:
    chosen = byte_settings(prepare, texts)
    rows = read(prepare.prepare(chosen)[0], "train")
    documents = list(prepare.open_corpus(chosen)("train"))
    expected = Counter("".join(documents).encode())
    packed = Counter(bytes(rows[rows != 256].astype(np.uint8)))
    assert sum((expected - packed).values()) <= 32
    assert not packed - expected


def test_bpe_survives_its_file(prepare: ModuleType, texts: Path) -> None:
    folder, _ = prepare.prepare(byte_settings(prepare, texts, tokenizer="bpe", vocab_size=300))
    tokenizer = prepare.BpeTokenizer.from_json((folder / "tokenizer.json").read_text())
    sample = "naïve score 42 \n\t unseen: 你好 <|bos|>"
    (tokens,) = tokenizer.encode([sample])
    assert tokenizer.encoding.decode(tokens.tolist()) == sample
    assert tokenizer.token_bytes[tokens].sum() == len(sample.encode())
    assert tokenizer.bos not in tokens


@pytest.mark.parametrize("tokenizer", ["byte", "bpe"])
def test_two_preparations_are_equal(prepare: ModuleType, texts: Path, tmp_path: Path, tokenizer: str) -> None:
    chosen = byte_settings(prepare, texts, tokenizer=tokenizer, vocab_size=290)
    first, _ = prepare.prepare(chosen, tmp_path / "first")
    second, _ = prepare.prepare(chosen, tmp_path / "second")
    for name in (path.name for path in first.iterdir()):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_second_preparation_does_nothing(prepare: ModuleType, texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = prepare.prepare(byte_settings(prepare, texts))
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    capsys.readouterr()
    assert prepare.prepare(byte_settings(prepare, texts)) == (folder, False)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert capsys.readouterr().err == ""


def test_changed_texts_or_settings_are_prepared_again(prepare: ModuleType, texts: Path) -> None:
    folder, _ = prepare.prepare(byte_settings(prepare, texts))
    (texts / "00.txt").write_text("another text altogether")
    changed, made = prepare.prepare(byte_settings(prepare, texts))
    assert made
    assert changed != folder
    longer, made = prepare.prepare(byte_settings(prepare, texts, sequence_length=64))
    assert made
    assert longer not in (folder, changed)


@pytest.mark.parametrize("damage", ["short", "no meta", "half meta"])
def test_damaged_folder_is_made_again(prepare: ModuleType, texts: Path, damage: str) -> None:
    folder, _ = prepare.prepare(byte_settings(prepare, texts))
    whole = (folder / "train.bin").read_bytes()
    if damage == "short":
        (folder / "train.bin").write_bytes(whole[:-2])
    elif damage == "no meta":
        (folder / "meta.json").unlink()
    else:
        (folder / "meta.json").write_text('{"format": 1')
    assert prepare.prepare(byte_settings(prepare, texts)) == (folder, True)
    assert (folder / "train.bin").read_bytes() == whole


def test_interrupted_preparation_leaves_nothing_half_made(
    prepare: ModuleType, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = byte_settings(prepare, texts)
    target = prepare.default_folder(prepare.resolve(chosen))

    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepare, "write_rows", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare.prepare(chosen)
    assert not target.exists()
    assert prepare.prepare(chosen) == (target, True)
    assert [path.name for path in target.parent.iterdir() if path.name.endswith(".partial")] == []


def test_foreign_folder_is_left_alone(prepare: ModuleType, texts: Path) -> None:
    (texts / "meta.json").write_text("{}")
    with pytest.raises(prepare.PrepareError, match="holds other files"):
        prepare.prepare(byte_settings(prepare, texts), texts)
    assert len(list(texts.iterdir())) == 41


def test_two_at_once_make_it_once(prepare: ModuleType, texts: Path) -> None:
    command = [sys.executable, str(SCRIPT), f"--corpus={texts}", "--tokenizer=byte", "--sequence-length=32", "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(2)]
    answers = [json.loads(process.communicate()[0]) for process in both]
    assert sorted(answer["made"] for answer in answers) == [False, True]
    assert answers[0]["folder"] == answers[1]["folder"]
    assert all(answer["prepared"] for answer in answers)


# --- corpora ---------------------------------------------------------------------------------------------------------


def split_documents(prepare: ModuleType, corpus: object) -> dict[str, list[str]]:
    documents = prepare.open_corpus(byte_settings(prepare, corpus))
    return {split: list(documents(split)) for split in prepare.SPLITS}


def test_splits_share_no_document_and_skip_what_is_no_text(prepare: ModuleType, texts: Path) -> None:
    (texts / "copy.txt").write_bytes((texts / "07.txt").read_bytes())
    (texts / "image.bin").write_bytes(b"\x89PNG\0\0")
    (texts / "latin.txt").write_bytes(b"caf\xe9")
    (texts / ".hidden").write_text("a secret of the user")
    splits = split_documents(prepare, texts)
    everything = [text for split in splits.values() for text in split]
    assert len(everything) == len(set(everything)) == 40
    assert (len(splits["val"]), len(splits["holdout"])) == (2, 2)


def test_single_file_is_cut_at_line_ends(prepare: ModuleType, tmp_path: Path) -> None:
    text = "".join(f"line {n} of a long book\r\n" for n in range(3000))
    (tmp_path / "book.txt").write_text(text, newline="")
    splits = split_documents(prepare, tmp_path / "book.txt")
    documents = [document for split in splits.values() for document in split]
    assert len(documents) >= 20
    assert all(document.endswith("book\n") for document in documents)
    assert sum(map(len, documents)) == len(text.replace("\r\n", "\n"))
    assert splits["val"]
    assert splits["holdout"]


def test_parquet_texts(prepare: ModuleType, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"id": list(range(50)), "text": [f"document {n}" if n else None for n in range(50)]})
    pq.write_table(table, tmp_path / "part.parquet")
    splits = split_documents(prepare, tmp_path)
    assert sorted(text for split in splits.values() for text in split) == sorted(f"document {n}" for n in range(1, 50))
    pq.write_table(pa.table({"content": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(prepare.PrepareError, match=r"\['content'\], but none is named 'text'"):
        split_documents(prepare, tmp_path)


@pytest.fixture(scope="module")
def python_splits() -> dict[str, list[str]]:
    documents = load()._python_documents()
    return {split: list(documents(split)) for split in ("train", "val", "holdout")}


def test_python_corpus_is_large_and_disjoint(python_splits: dict[str, list[str]]) -> None:
    sizes = {split: sum(map(len, texts)) for split, texts in python_splits.items()}
    assert sizes["train"] > 50_000_000
    assert min(sizes["val"], sizes["holdout"]) > 5_000_000
    everything = [text for texts in python_splits.values() for text in texts]
    assert len(everything) == len(set(everything))


def test_python_corpus_holds_nothing_that_a_variant_can_read(python_splits: dict[str, list[str]]) -> None:
    everything = {text for texts in python_splits.values() for text in texts}
    readable = [Path(sysconfig.get_path("stdlib"))]
    for name in ("torch", "numpy", "sympy", "networkx", "jinja2", "filelock", "fsspec", "setuptools"):
        files = importlib.metadata.distribution(name).files or []
        readable += [Path(str(file.locate())) for file in files if file.suffix == ".py"]
    paths = [path for path in readable if path.is_file()]
    paths += [path for path in readable[0].rglob("*.py") if "site-packages" not in path.parts]
    assert len(paths) > 5000
    shared = [path for path in paths if path.read_bytes().decode("utf-8", "replace") in everything]
    assert shared == []


def test_python_corpus_holds_only_what_a_distribution_lists(
    prepare: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    info = tmp_path / "site" / "thing-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
    listed = ["thing/a.py", "thing/_version.py", "thing/_vendor/b.py", "thing/c_pb2.py", "thing/data.json", "../e.py"]
    for name in (*listed, "thing/users_own.py"):
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}\r\n", newline="")
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in listed))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert list(prepare.package_sources("thing")) == ["# thing/a.py\n"]


def test_python_corpus_names_every_version(prepare: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    matter = prepare.resolve(byte_settings(prepare, "python"))
    assert matter["packages"]["litellm"] == importlib.metadata.version("litellm")
    forbidden = {"torch", "numpy", "sympy", "networkx", "jinja2", "mpmath", "filelock", "fsspec", "setuptools"}
    assert not forbidden & {name.lower() for name in matter["packages"]}
    monkeypatch.setattr(prepare, "PACKAGES", {"train": ("no-such-thing",), "val": (), "holdout": ()})
    with pytest.raises(prepare.PrepareError, match="needs the package no-such-thing"):
        prepare.resolve(byte_settings(prepare, "python"))


# --- the command line ------------------------------------------------------------------------------------------------


def test_options_mirror_the_configuration(prepare: ModuleType) -> None:
    """The engine passes every key of `data:` as an option; both know the same keys, defaults and ranges."""
    defaults = DataConfig()
    assert prepare.asdict(prepare.Settings()) == defaults.model_dump(exclude={"directory"})
    for name, low, high in [("vocab_size", 257, 65536), ("sequence_length", 16, 65536), ("shards", 1, 6542)]:
        schema = DataConfig.model_json_schema()["properties"][name]
        assert (schema["minimum"], schema["maximum"]) == (low, high)
        for value in (low - 1, high + 1):
            with pytest.raises(prepare.PrepareError, match=f"{name} is {value}; it must lie between {low} and {high}"):
                prepare.Settings(**{name: value}).check()


def test_locate_prepare_and_again(prepare: ModuleType, texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"--corpus={texts}", "--tokenizer=byte", "--sequence-length=32", f"--directory={texts.parent / 'out'}"]
    answers = []
    for extra in (["--locate"], [], [], ["--locate"]):
        assert prepare.main([*options, *extra, "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert [answer["prepared"] for answer in answers] == [False, True, True, True]
    assert [answer["made"] for answer in answers] == [False, True, False, False]
    assert {answer["folder"] for answer in answers} == {str(texts.parent / "out")}
    assert prepare.main(options) == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--corpus=/no/such/path"], "must be 'python', 'climbmix', or a path"),
        (["--vocab-size=100"], "vocab_size is 100; it must lie between 257 and 65536"),
        (["--val-tokens=1024"], "val_tokens is 1024; at least one row of 2048 is needed"),
        (["--tokenizer=words"], "must be 'bpe' or 'byte'"),
    ],
)
def test_bad_options_get_a_sentence(
    prepare: ModuleType, capsys: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    assert prepare.main(options) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert sentence in captured.err
    assert captured.err.count("\n") == 1


def test_too_little_text_gets_a_sentence(
    prepare: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "few"
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.txt").write_text(f"text {number}")
    assert prepare.main([f"--corpus={folder}", "--tokenizer=byte"]) == 2
    assert "holds 2 different documents" in capsys.readouterr().err
    (folder / "2.txt").write_text("text 2")
    assert prepare.main([f"--corpus={folder}", "--tokenizer=byte"]) == 2
    assert "not enough train text for a single row of 2048 tokens" in capsys.readouterr().err
    assert prepare.main([f"--corpus={folder}"]) == 2
    assert "tokens; lower vocab_size" in capsys.readouterr().err


def test_unwritable_place_gets_a_sentence(prepare: ModuleType, texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocked = texts / "00.txt" / "out"
    assert prepare.main([f"--corpus={texts}", "--tokenizer=byte", f"--out={blocked}"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_help_and_locating_need_no_torch(texts: Path) -> None:
    code = (
        "import sys; sys.argv = ['prepare.py', '--corpus', sys.argv[1], '--locate']; import prepare;"
        "prepare.main(); assert 'torch' not in sys.modules and 'pyarrow' not in sys.modules"
    )
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parent)}
    subprocess.run([sys.executable, "-c", code, str(texts)], env=environment, check=True, stdout=subprocess.DEVNULL)


def test_rows_for_checks_are_other_rows_of_the_val_documents(prepare: ModuleType, texts: Path) -> None:
    folder, _ = prepare.prepare(byte_settings(prepare, texts))
    val, check, train = (read(folder, name) for name in ("val", "check", "train"))
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["rows"]["check"] == len(check) <= len(val)
    assert len(check) >= max(1, len(val) // 4)
    assert not {row.tobytes() for row in val} & {row.tobytes() for row in check}
    documents = "\0".join(prepare.open_corpus(byte_settings(prepare, texts))("val"))
    for row in check:
        longest = max(bytes(row[row != 256].astype(np.uint8)).decode("utf-8", "ignore").split("\n"), key=len)
        assert longest[:8] in documents
    assert len(train) > 0


def test_a_single_row_serves_as_both(prepare: ModuleType, tmp_path: Path) -> None:
    tokenizer = prepare.ByteTokenizer()
    rows = prepare.write_rows(tmp_path / "val.bin", iter(["x" * 40]), tokenizer, 32, 32, tmp_path / "check.bin")
    assert rows == 1
    assert (tmp_path / "check.bin").read_bytes()[:66] in (tmp_path / "val.bin").read_bytes()


def test_a_folder_without_rows_for_checks_is_prepared_again(prepare: ModuleType, texts: Path) -> None:
    folder, _ = prepare.prepare(byte_settings(prepare, texts))
    (folder / "check.bin").unlink()
    assert prepare.prepare(byte_settings(prepare, texts)) == (folder, True)
    assert (folder / "check.bin").exists()
