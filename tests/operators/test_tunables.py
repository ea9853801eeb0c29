"""Which literals are found, how they may move, and that writing touches nothing else."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch_ray.operators.tunables import Kind, Tunable, find, is_layers, render, tidy, words, write

steady = settings(deadline=None, derandomize=True)

SEED_SOURCE = (Path(__file__).parents[2] / "seed_model" / "train.py").read_text()


def only(source: str) -> Tunable:
    (tunable,) = find(source)
    return tunable


@pytest.mark.parametrize(
    ("source", "value", "kind"),
    [
        ("DEPTH = 8", 8, Kind.COUNT),
        ("N_LAYER = 4", 4, Kind.COUNT),
        ("HEADS = 8", 8, Kind.DOUBLING),
        ("HEADS = 1", 1, Kind.DOUBLING),
        ("STEPS = 0", 0, Kind.COUNT),
        ("MUON_STEPS = 5", 5, Kind.COUNT),
        ("OFFSET = -8", -8, Kind.DOUBLING),
        ("BATCH: int = 2**19", 2**19, Kind.DOUBLING),
        ("BATCH = 64 * 1024", 65536, Kind.DOUBLING),
        ("BATCH = 3 * 1024", 3072, Kind.COUNT),
        ("BATCH = 65_536", 65536, Kind.DOUBLING),
        ("LR = 3e-4", 3e-4, Kind.SCALE),
        ("LR = 1 / 8", 0.125, Kind.SCALE),
        ("LR = 0.5**2 * 2", 0.5, Kind.SCALE),
        ("LR = (0.04)", 0.04, Kind.SCALE),
        ("SHIFT = -0.5", -0.5, Kind.SCALE),
        ("SHIFT = -1.0", -1.0, Kind.SCALE),
        ("WEIGHT_DECAY = 0.0", 0.0, Kind.SCALE),
        ("MLP_RATIO = 4.0", 4.0, Kind.SCALE),
        ("ADAM_BETA2 = 0.95", 0.95, Kind.UNIT),
        ("MUON_MOMENTUM = 0.95", 0.95, Kind.UNIT),
        ("FINAL_LR_FRAC = 0.0", 0.0, Kind.UNIT),
        ("WARMDOWN = 1.0", 1.0, Kind.UNIT),
        ("CAUTIOUS = True", True, Kind.FLAG),
        ("CAUTIOUS: bool = False", False, Kind.FLAG),
    ],
)
def test_literals_and_their_kinds(source: str, value: object, kind: Kind) -> None:
    tunable = only(source)
    assert (tunable.value, tunable.kind) == (value, kind)
    assert type(tunable.value) is type(value)
    assert source[tunable.start : tunable.end] == tunable.text


@pytest.mark.parametrize(
    "source",
    [
        "depth = 8",
        "Depth = 8",
        "_DEPTH = 8",
        "DEPTH = other",
        "DEPTH = int(8)",
        "DEPTH = 8 if on_gpu else 4",
        "DEPTH = 3 + 5",  # a sum has no scale of its own
        "DEPTH = ~8",
        "DEPTH = 1 / 0",
        "DEPTH = 2**4096",
        "DEPTH = 1000**64",
        "DEPTH = (-8)**0.5",
        "DEPTH = 1e400",
        "DEPTH = 3j",
        "DEPTH = 1" + "0" * 400,
        "DEPTH = None",
        "DEPTH = 8\nDEPTH = 9",
        "DEPTH = 8\nif cuda:\n    DEPTH = 9",
        "DEPTH = 8\nDEPTH += 1",
        "DEPTH = OTHER = 8",
        "A, B = 1, 2",
        "model.DEPTH = 8",
        "def f():\n    DEPTH = 8",
        "class A:\n    DEPTH = 8",
        "if cuda:\n    DEPTH = 8",
        "MASK = 0xff",
        "MASK = 0b11 * 2",
        "WINDOW = -1",
        "SEED = 42",
        "DATA_SEED2 = 42",
        "VOCAB_SIZE = 256",
        "PEAK_FLOPS = 989.5e12",
        'PATTERN = "SSSL"',
        'PATTERN = f"SSSL"  # one of: SSSL, L',
        'PATTERN = """SSSL"""  # one of: SSSL, L',
        'PATTERN = "SSSL"  # one of: SSSL',
        'PATTERN = "SSSL"  # one of: L, SL',
        "SIZES = {1, 2}",
        "SIZES = [n for n in range(3)]",
        "",
    ],
)
def test_what_cannot_be_stepped_safely_is_left_alone(source: str) -> None:
    assert find(source) == []


def test_a_local_of_the_same_name_does_not_hide_a_literal() -> None:
    assert only("B = 16\ndef f(x):\n    B, T = x.shape\nclass A:\n    B = 3").value == 16


def test_each_number_of_a_tuple_is_a_literal() -> None:
    tunables = find("BETAS = (0.8, 0.95)\nSIZES = [\n    64,  # first\n    other,\n    3,\n]")
    assert [(t.key, t.value) for t in tunables] == [
        ("BETAS[0]", 0.8),
        ("BETAS[1]", 0.95),
        ("SIZES[0]", 64),
        ("SIZES[2]", 3),
    ]


@pytest.mark.parametrize(
    ("source", "choices"),
    [
        ('P = "SSSL"  # one of: SSSL, SSL, L', ("SSSL", "SSL", "L")),
        ("P = 'a'  # One of: 'a', \"b-c\", d.e", ("a", "b-c", "d.e")),
        ("N = 4  # one of: 2, 4, 8", (2, 4, 8)),
        ("X = 0.5 # one of: 0.5, 1e-1, many, nan, inf", (0.5, 0.1)),
        ('P = "a"  # one of: a, b (b is slower)', ("a", "b")),
        ('P = "a"  # one of: a, b b', ("a", "b")),
    ],
)
def test_listed_choices(source: str, choices: tuple[object, ...]) -> None:
    tunable = only(source)
    assert tunable.kind is Kind.CHOICE
    assert tunable.choices == choices


def test_the_comment_of_another_line_lists_nothing() -> None:
    assert find('P = "a"\n# one of: a, b') == []


def test_every_tunable_of_the_seed_model_is_found() -> None:
    block = SEED_SOURCE.split("# Sizes\n")[0]
    assigned = [
        s.targets[0].id for s in ast.parse(block).body if isinstance(s, ast.Assign) and s.targets[0].id.isupper()
    ]
    assert len(assigned) > 20
    assert [tunable.key for tunable in find(SEED_SOURCE)] == assigned


@pytest.mark.parametrize(
    ("source", "value", "text"),
    [
        ("B = 2**19", 2**20, "2**20"),
        ("B = 2 ** 19", 2**18, "2 ** 18"),
        ("B = 2**19", 1000, "1000"),
        ("B = 64 * 1024", 2**17, "128 * 1024"),
        ("B = 64*1024", 2**15, "32*1024"),
        ("B = 4 * 8 * 1024", 2**16, "8 * 8 * 1024"),
        ("B = 1 * 1024", 512, "512"),
        ("B = (64 * 2) * 8", 2048, "2048"),
        ("B = 64 * (2 * 8)", 2048, "2048"),
        ("B = 1_024 *  2", 1024, "512 *  2"),
        ("B = 10**3 * 2", 3000, "3000"),
        ("B = 65_536", 2**17, "131_072"),
        ("LR = 3e-4", 2.71e-4, "2.71e-4"),
        ("LR = 3E-4", 3e-3, "3e-3"),
        ("LR = 0.04", 0.031, "0.031"),
        ("LR = 0.04", 1e-5, "1e-5"),
        ("LR = 0.04", 2.0, "2.0"),
        ("BASE = 10000.0", 200000.0, "200000.0"),
        ("LR = -0.5", -0.25, "-0.25"),
        ("LR = 1 / 8", 0.25, "0.25"),
        ("LR = 0.04", 0.0, "0.0"),
        ("F = True", False, "False"),
        ("P = 'a'  # one of: a, b", "b", "'b'"),
        ('P = "a"  # one of: a, b', "b", '"b"'),
    ],
)
def test_values_are_spelled_as_the_literal_is(source: str, value: int | float | str, text: str) -> None:
    tunable = only(source)
    assert render(tunable, value) == text
    written = only(write(source, [tunable], {tunable.key: text}))
    assert written.value == value
    assert type(written.value) is type(value)


def test_writing_touches_nothing_else() -> None:
    source = '#é 😀\r\nα = 1; LR = 0.04;  WD=0.5 # 0.04 "ü"\rB = (\t0.8,0.95 , )\n\x0cD:int=\\\n  4  # layers'
    values = {tunable.key: f"<{tunable.key}>" for tunable in find(source)}
    assert write(source, find(source), values) == (
        '#é 😀\r\nα = 1; LR = <LR>;  WD=<WD> # 0.04 "ü"\rB = (\t<B[0]>,<B[1]> , )\n\x0cD:int=\\\n  <D>  # layers'
    )
    assert write(source, find(source), {"LR": "1.0", "UNKNOWN": "2.0"}) == source.replace("LR = 0.04", "LR = 1.0")


@pytest.mark.parametrize("source", ["DEPTH = ", "X = '\0'", "(" * 5000, "X = 1" + " * 1" * 100_000])
def test_source_that_does_not_parse_is_a_syntax_error(source: str) -> None:
    with pytest.raises(SyntaxError):
        find(source)


@steady
@given(st.text(alphabet="A=1.5e-2*() #\n\r\t\x0céX_:,", max_size=60))
def test_whatever_parses_is_found_where_it_stands(source: str) -> None:
    try:
        tunables = find(source)
    except SyntaxError:
        return
    assert write(source, tunables, {tunable.key: tunable.text for tunable in tunables}) == source
    for tunable in tunables:
        assert eval(source[tunable.start : tunable.end]) == tunable.value


@steady
@given(st.floats(1e-9, 1e9), st.sampled_from(["0.04", "4e-2"]))
def test_a_float_is_spelled_exactly(value: float, text: str) -> None:
    assert only(f"LR = {render(only(f'LR = {text}'), value)}").value == value


@steady
@given(st.floats(1e-6, 1 - 1e-6))
def test_a_fraction_keeps_three_digits_of_its_distance_from_both_ends(value: float) -> None:
    tidied = tidy(value, Kind.UNIT)
    assert 0 < tidied < 1
    assert math.isclose(tidied, value, rel_tol=0.006)
    assert math.isclose(1 - tidied, 1 - value, rel_tol=0.006)


def test_words() -> None:
    assert words("ADAM_BETA2") == ["ADAM", "BETA"]
    assert is_layers("N_LAYERS")
    assert not is_layers("PLAYERS")
