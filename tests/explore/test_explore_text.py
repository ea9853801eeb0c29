import hostile
import pytest
from rich.text import Text

from autoresearch_ray.explore import text
from autoresearch_ray.lineage.query import Score


def test_one_line_holds_nothing_a_terminal_obeys() -> None:
    shown = text.plain(hostile.TEXT)
    assert not set(hostile.FORBIDDEN) & set(shown)
    assert "\n" not in shown
    assert "\t" not in shown
    assert hostile.MARKUP in shown  # shown as it is, not interpreted


def test_a_block_keeps_its_lines_and_nothing_else() -> None:
    assert (
        text.block("a\r\n\tb\x1b[31mc\nd\x85e") == "a\n    b\N{REPLACEMENT CHARACTER}[31mc\nd\N{REPLACEMENT CHARACTER}e"
    )


@pytest.mark.parametrize(
    ("score", "shown"),
    [
        (Score(3.74123, 3, 0.00224), "3.7412 ±0.0022 (3)"),
        (Score(3.74123, 1, None), "3.7412 (1)"),
        (None, "-"),
    ],
)
def test_a_score_has_its_error_and_its_count(score: Score | None, shown: str) -> None:
    assert text.score(score) == shown


@pytest.mark.parametrize(
    ("gain", "error", "shown"),
    [
        (0.01, 0.002, Text("-0.0100", style="green")),
        (0.01, 0.006, Text("-0.0100?", style="")),
        (0.01, None, Text("-0.0100?", style="")),
        (-0.01, 0.001, Text("+0.0100", style="dim")),
        (None, None, Text("-", style="dim")),
    ],
)
def test_a_gain_that_may_be_luck_is_marked_even_without_colour(
    gain: float | None, error: float | None, shown: Text
) -> None:
    made = text.gain_text(gain, error)
    assert (made.plain, str(made.style)) == (shown.plain, str(shown.style))


@pytest.mark.parametrize(("value", "shown"), [(0.42, "0.4 s"), (99.94, "99.9 s"), (308, "5:08 min"), (7380, "2:03 h")])
def test_durations(value: float, shown: str) -> None:
    assert text.seconds(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "-"), (999, "999"), (430_000, "430 k"), (1_234_567, "1.23 M"), (2_000_000_000, "2 G")]
)
def test_quantities(value: int | None, shown: str) -> None:
    assert text.quantity(value) == shown
