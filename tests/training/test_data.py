from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from small_data import ROWS, SEQUENCE_LENGTH, VOCAB_SIZE, make_data, write_meta

from autoresearch_ray.errors import DataError
from autoresearch_ray.training.data import TrainingOrder, open_data


def test_a_prepared_folder_opens(tmp_path: Path) -> None:
    data = open_data(make_data(tmp_path))
    assert (data.vocab_size, data.sequence_length, data.bos_token) == (VOCAB_SIZE, SEQUENCE_LENGTH, VOCAB_SIZE - 1)
    assert data.data_hash == "0" * 64
    rows = data.open_rows("val")
    assert rows.shape == (ROWS["val"], SEQUENCE_LENGTH + 1)
    assert not rows.flags.writeable
    assert data.token_bytes()[VOCAB_SIZE - 1] == 0


def test_what_was_not_prepared_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run `autoresearch-ray prepare`"):
        open_data(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"vocab_size": None},
        {"vocab_size": "50"},
        {"vocab_size": True},
        {"vocab_size": 70_000},
        {"vocab_size": VOCAB_SIZE + 1},
        {"sequence_length": 0},
        {"sequence_length": SEQUENCE_LENGTH + 1},
        {"rows": {"train": 1, "val": 1}},
        {"rows": {**ROWS, "val": 0}},
        {"rows": {**ROWS, "train": ROWS["train"] + 1}},
    ],
)
def test_damaged_meta_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    write_meta(make_data(tmp_path), **changes)
    with pytest.raises(DataError, match="damaged"):
        open_data(tmp_path)


@pytest.mark.parametrize("name", ["train.bin", "val.bin", "holdout.bin", "token_bytes.npy", "meta.json"])
def test_damaged_files_are_refused(tmp_path: Path, name: str) -> None:
    path = make_data(tmp_path) / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="damaged"):
        open_data(tmp_path)
    if name != "meta.json":
        path.unlink()
        with pytest.raises(DataError, match="damaged"):
            open_data(tmp_path)


@pytest.fixture
def rows() -> np.ndarray:
    """7 rows of T = 12; token 13 i + j at place j of row i, so that a token says where it was."""
    return np.arange(7 * 13, dtype=np.uint16).reshape(7, 13)


def test_the_seed_decides_the_order(rows: np.ndarray) -> None:
    first, again, other = (TrainingOrder(rows, seed).draw(20, 12) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_size_of_the_batches_does_not_change_the_order(rows: np.ndarray) -> None:
    order = TrainingOrder(rows, 3)
    np.testing.assert_array_equal(
        np.concatenate([order.draw(n, 12) for n in (1, 9, 4)]), TrainingOrder(rows, 3).draw(14, 12)
    )


@pytest.mark.parametrize(("length", "in_row"), [(12, 1), (7, 1), (6, 2), (4, 3), (1, 12)])
def test_every_window_comes_once_before_any_comes_again(rows: np.ndarray, length: int, in_row: int) -> None:
    order = TrainingOrder(rows, 5)
    for _ in range(2):
        windows = order.draw(7 * in_row, length)
        assert windows.shape == (7 * in_row, length + 1)
        assert (np.diff(windows.astype(int)) == 1).all()
        starts = Counter((int(w[0]) // 13, int(w[0]) % 13) for w in windows)
        assert starts == Counter((row, length * k) for row in range(7) for k in range(in_row))


def test_a_batch_of_short_windows_mixes_rows(rows: np.ndarray) -> None:
    windows = TrainingOrder(rows, 5).draw(7, 3)
    assert len({int(w[0]) // 13 for w in windows}) == 7
