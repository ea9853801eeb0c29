from __future__ import annotations

import pytest

from autoresearch_ray.training.block import LONGEST_LINE, MOST_NAMES, BlockReader, Claims

AUTORESEARCH = b"""\
step 00952 (99.8%) | loss: 2.61\r\rstep 00953 (100.0%) | loss: 2.60
---
val_bpb:          0.997900
training_seconds: 300.1
total_seconds:    325.9
peak_vram_mb:     45060.2
mfu_percent:      39.80
total_tokens_M:   499.6
num_steps:        953
num_params_M:     50.3
depth:            8
"""


def read(output: bytes, metric: str = "val_bpb", pieces: int = 1 << 30) -> Claims:
    reader = BlockReader(metric)
    for start in range(0, len(output), pieces):
        reader.feed(output[start : start + pieces])
    return reader.claims()


@pytest.mark.parametrize("pieces", [1, 2, 3, 7, 1 << 30])
def test_the_block_of_autoresearch_however_it_arrives(pieces: int) -> None:
    claims = read(AUTORESEARCH, pieces=pieces)
    assert len(claims.values) == 9
    assert claims.number("val_bpb") == 0.9979
    assert claims.number("num_params_M") == 50.3
    assert claims.number("loss") is None


@pytest.mark.parametrize(
    ("output", "value"),
    [
        (b"---\nval_bpb: 1\n", "1"),
        (b"---\nval_bpb: 1", "1"),
        (b"---\r\nval_bpb: 1\r\n", "1"),
        (b"  ---  \n  val_bpb :  1e-3  \n", "1e-3"),
        (b"---\n\nother: a\n\nval_bpb: 1\n", "1"),
        (b"val_bpb: 1\n", None),
        (b"----\nval_bpb: 1\n", None),
        (b"---\nhere it comes\nval_bpb: 1\n", None),
        (b"--- val_bpb: 1\n", None),
        (b"---\nVAL_BPB: 1\n", None),
        (b"100%|##########|\r---\nval_bpb: 1\n", "1"),
        # the last block that names the metric decides
        (b"---\nval_bpb: 1\n---\nval_bpb: 2\n", "2"),
        (b"---\nval_bpb: 1\nval_bpb: 2\n", "2"),
        (b"---\nval_bpb: 1\ndone\n---\nother: 2\n", "1"),
        (b"---\nval_bpb: 1\ndone\n---\nval_bpb: nan\n", "nan"),
        (b"---\nval_bpb: 1\n---\n", "1"),
        # the other form
        (b"METRIC val_bpb=1\n", "1"),
        (b"  METRIC  val_bpb = 1.5 \nand so on\n", "1.5"),
        (b"METRIC val_bpb=1\nMETRIC val_bpb=2\nMETRIC other=3\n", "2"),
        (b"my METRIC val_bpb=1\n", None),
        (b"METRIC val_bpb=\n", None),
        (b"METRIC val_bpb=1\n---\nval_bpb: 2\n", "2"),
        (b"---\nval_bpb: 2\nMETRIC val_bpb=1\n", "1"),
        (b"---\nval_bpb: 2\nMETRIC other=1\n", "2"),
        (b"", None),
    ],
)
def test_what_is_found(output: bytes, value: str | None) -> None:
    for pieces in (1, 4, 1 << 30):
        assert read(output, pieces=pieces).values.get("val_bpb") == value


def test_marked_lines_belong_together() -> None:
    claims = read(b"METRIC loss=2\nbla\nMETRIC acc=0.5\nbla\nMETRIC num_steps=7\n", metric="acc")
    assert dict(claims.values) == {"loss": "2", "acc": "0.5", "num_steps": "7"}


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "None", "0x10", "1_000", "1,5", "tensor(1.0)", "１"])
def test_what_is_not_a_finite_number(text: str) -> None:
    claims = read(f"---\nval_bpb: {text}\n".encode())
    assert claims.values["val_bpb"] == text
    assert claims.number("val_bpb") is None


@pytest.mark.parametrize(("text", "number"), [("-1", -1.0), ("+.5", 0.5), ("3.", 3.0), ("1E+2", 100.0)])
def test_what_is_a_number(text: str, number: float) -> None:
    assert read(f"METRIC val_bpb={text}\n".encode()).number("val_bpb") == number


def test_memory_is_bounded_whatever_is_printed() -> None:
    reader = BlockReader("val_bpb")
    for _ in range(50):
        reader.feed(b"x" * 1_000_000)
    assert len(reader._rest) <= LONGEST_LINE + 1
    reader.feed(b"\n---\n")
    for number in range(10 * MOST_NAMES):
        reader.feed(f"name{number}: 1\n".encode())
    reader.feed(b"val_bpb: 3\n")
    claims = reader.claims()
    assert len(claims.values) == MOST_NAMES + 1
    assert claims.number("val_bpb") == 3.0


@pytest.mark.parametrize("end", [b"---\nval_bpb: 1\n", b" METRIC val_bpb=1\n"])
def test_the_end_of_a_long_line_is_not_taken_for_a_line(end: bytes) -> None:
    assert read(b"x" * (3 * LONGEST_LINE) + end, pieces=LONGEST_LINE).values == {}
    assert read(b"x" * (3 * LONGEST_LINE) + b"\r" + end, pieces=LONGEST_LINE).number("val_bpb") == 1.0


def test_a_long_line_that_ends_like_a_rule_is_none() -> None:
    reader = BlockReader("val_bpb")
    reader.feed(b"x" + b" " * LONGEST_LINE + b"---")
    reader.feed(b"\nval_bpb: 1\n")
    assert reader.claims().values == {}
