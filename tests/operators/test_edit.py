from __future__ import annotations

import difflib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch_ray.operators.edit import LONGEST_HYPOTHESIS, Block, Edited, Parsed, Refused, apply, one_line, parse

SOURCE = (
    "import torch\n\nDEPTH = 3  # layers\nWIDTH = 64\n\n\ndef norm(x):\n    return x\n\n\ndef other(x):\n    return x\n"
)


def block(search: str, replace: str, size: int = 7) -> str:
    parts = ("<" * size + " SEARCH", search, "=" * size, replace, ">" * size + " REPLACE")
    return "\n".join(part for part in parts if part) + "\n"


def reply(*blocks: str, hypothesis: str = "HYPOTHESIS: it is better") -> str:
    return f"{hypothesis}\n\n{''.join(blocks)}"


def source_of(outcome: Edited | Refused) -> str:
    assert isinstance(outcome, Edited), outcome
    return outcome.source


def reason_of(outcome: Edited | Refused | Parsed) -> str:
    assert isinstance(outcome, Refused), outcome
    assert "\n" not in outcome.reason
    return outcome.reason


# ------------------------------------------------------------------------------------------------------- what applies


def test_a_replacement_an_insertion_and_a_deletion() -> None:
    outcome = apply(
        SOURCE,
        reply(
            block("DEPTH = 3  # layers", "DEPTH = 4  # layers"),
            block("WIDTH = 64", "WIDTH = 64\nHEADS = 2"),
            block("def other(x):\n    return x", ""),
        ),
    )
    expected = (
        SOURCE.replace("= 3", "= 4").replace("64\n", "64\nHEADS = 2\n").replace("def other(x):\n    return x\n", "")
    )
    assert outcome == Edited(expected, "it is better")


def test_blocks_apply_in_order_each_to_the_outcome_of_those_before() -> None:
    outcome = apply("a\nb\n", reply(block("a", "b\nc"), block("c\nb", "d")))
    assert source_of(outcome) == "b\nd\n"


def test_blank_lines_can_be_inserted_and_removed() -> None:
    assert source_of(apply("a\nb\n", reply(block("a", "a\n\n")))) == "a\n\n\nb\n"
    assert source_of(apply("a\n\nb\n", reply("<<<<<<< SEARCH\n\n=======\n>>>>>>> REPLACE"))) == "a\nb\n"


@pytest.mark.parametrize(
    "wrapped",
    [
        "Some words first.\n\n{}",
        "```\n{}```\n",
        "```python\n{}```\nand that is all.",
        "<think>\nHYPOTHESIS: no\n<<<<<<< SEARCH\nWIDTH = 64\n</think>\n{}",
        "{}\n\nMore words, with `<<<<<<< SEARCH` in them.",
    ],
    ids=["words", "fence", "python fence", "reasoning", "words after"],
)
def test_what_stands_around_the_blocks_does_not_matter(wrapped: str) -> None:
    text = wrapped.format(reply(block("WIDTH = 64", "WIDTH = 96")))
    assert apply(SOURCE, text) == Edited(SOURCE.replace("64", "96"), "it is better")


def test_several_fenced_blocks_with_words_between() -> None:
    first, second = block("WIDTH = 64", "WIDTH = 96"), block("DEPTH = 3  # layers", "DEPTH = 2  # layers")
    text = f"First:\n```\n{first}```\nThen:\n```diff\n{second}```\n**Hypothesis:** wide, not deep\n"
    assert apply(SOURCE, text) == Edited(SOURCE.replace("64", "96").replace("= 3", "= 2"), "wide, not deep")


def test_a_reply_with_crlf_edits_a_source_with_lf_and_the_other_way_round() -> None:
    text = reply(block("DEPTH = 3  # layers\nWIDTH = 64", "DEPTH = 4\nWIDTH = 96"))
    edited = SOURCE.replace("3  # layers", "4").replace("64", "96")
    assert source_of(apply(SOURCE, text.replace("\n", "\r\n"))) == edited
    assert source_of(apply(SOURCE.replace("\n", "\r\n"), text)) == edited.replace("\n", "\r\n")


def test_lines_that_no_block_names_keep_their_bytes() -> None:
    source = "a = 1\r\nb = 2\nc = '\x0c\u2028\x85'\rd\r\ne = 3"
    assert source_of(apply(source, reply(block("b = 2", "b = 3")))) == source.replace("b = 2\n", "b = 3\r\n")


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_end_of_the_file_stays_as_it_is(newline: str) -> None:
    for end in ("", newline):
        source = f"a{newline}b{end}"
        assert source_of(apply(source, reply(block("b", "b\nc")))) == f"a{newline}b{newline}c{end}"
        assert source_of(apply(source, reply(block("a", "")))) == f"b{end}"


def test_unicode_is_taken_as_it_is() -> None:
    assert (
        source_of(apply("α = 'é'\nβ = 'e\u0301'\n", reply(block("α = 'é'", "α = '☃'")))) == "α = '☃'\nβ = 'e\u0301'\n"
    )
    assert "no line is like" in reason_of(apply("y = 1\n", reply(block("ⅹⅹⅹ", "z"))))


def test_longer_markers_hold_lines_that_look_like_markers() -> None:
    source = "a\n=======\n>>>>>>> REPLACE\nb\n"
    assert source_of(apply(source, reply(block("a\n=======\n>>>>>>> REPLACE", "a\n<<<<<<< SEARCH", 9)))) == (
        "a\n<<<<<<< SEARCH\nb\n"
    )


def test_a_whole_file_in_a_fence() -> None:
    outcome = apply(SOURCE, "HYPOTHESIS: start again\n\n```python\nx = 1\n\ny = 2\n```\nDone.")
    assert outcome == Edited("x = 1\n\ny = 2\n", "start again")
    assert source_of(apply("a\r\nb\r\n", "HYPOTHESIS: h\n~~~\nc\nd\n~~~")) == "c\r\nd\r\n"


def test_the_longest_of_several_fences_is_the_file() -> None:
    text = "HYPOTHESIS: h\n```\nx = 1\n```\n````python\nx = 1\ny = '''\n```\n'''\n````\n"
    assert source_of(apply(SOURCE, text)) == "x = 1\ny = '''\n```\n'''\n"


def test_blocks_win_over_a_fence() -> None:
    text = reply(block("WIDTH = 64", "WIDTH = 96"), "As in:\n```python\nx = 1\ny = 2\nz = 3\n```\n")
    assert source_of(apply(SOURCE, text)) == SOURCE.replace("64", "96")


# ------------------------------------------------------------------------------------------------------- what does not


@pytest.mark.parametrize(
    ("blocks", "says"),
    [
        ([block("    return x", "    return 2 * x")], "at several places, beginning in lines 8, 12; quote more"),
        ([block("WIDTH = 6", "WIDTH = 7")], "line 4 is 'WIDTH = 64', not 'WIDTH = 6'"),
        ([block("DEPTH = 3", "DEPTH = 4")], "line 3 is 'DEPTH = 3  # layers', not 'DEPTH = 3'"),
        (
            [block("def norm(x):\n  return x", "")],
            "from line 7 on 1 of them agree, but then line 8 is '    return x', not",
        ),
        ([block("    return x\n}", "")], "agree, but then line 9 is '', not '}'"),
        ([block("def other(x):\n    return x\n\nx", "")], "from line 11 on 2 of them agree, but then the program ends"),
        ([block("quite something else", "")], "no line is like 'quite something else'"),
        ([block("", "x = 1")], "its SEARCH part is empty"),
        (
            [block("WIDTH = 64", "WIDTH = 96"), block("WIDTH = 64", "WIDTH = 32")],
            "Block 2 of 2: its SEARCH lines are not",
        ),
    ],
)
def test_a_block_without_exactly_one_place_is_refused_with_the_reason(blocks: list[str], says: str) -> None:
    assert says in reason_of(apply(SOURCE, reply(*blocks)))


def test_part_of_a_line_is_no_match() -> None:
    assert "not in the program" in reason_of(apply("alpha = 1\n", reply(block("alpha = ", "beta = "))))


def test_many_places_are_not_all_listed() -> None:
    assert "lines 1, 2, 3, 4, 5 and more;" in reason_of(apply("x\n" * 50, reply(block("x", "y"))))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "The reply is empty."),
        (" \n\t\n", "The reply is empty."),
        ("I would rather not.", "neither a SEARCH/REPLACE block nor a whole file"),
        ("HYPOTHESIS: h", "neither a SEARCH/REPLACE block nor a whole file"),
        (block("WIDTH = 64", "WIDTH = 96"), "no line `HYPOTHESIS: ...`"),
        (reply(block("WIDTH = 64", "WIDTH = 96"), hypothesis="HYPOTHESIS: **"), "no line `HYPOTHESIS: ...`"),
        (reply("<<<<<<< SEARCH\nWIDTH = 64\n"), "Block 1 (line 3 of the reply) has no line `=======`."),
        (reply("<<<<<<< SEARCH\nWIDTH = 64\n=======\nWIDTH"), "Block 1 (line 3 of the reply) has no line `>>>>>>> RE"),
        (reply("<<<<<<< SEARCH\na\n" + block("b", "c")), "Block 1 is not ended where the next begins (line 5 of"),
        (reply(">>>>>>> REPLACE\n"), "Line 3 of the reply ends a block that has no beginning"),
        ("HYPOTHESIS: h\n```python\nx = 1\n", "The fence in line 2 of the reply is not closed"),
        ("<think>HYPOTHESIS: h\n" + block("WIDTH = 64", "1") + "</think>\nsorry", "neither a SEARCH/REPLACE block"),
        (reply(block("WIDTH = 64", "WIDTH = 64")), "The reply changes nothing."),
    ],
)  # fmt: skip
def test_a_reply_that_cannot_be_used_is_refused_with_the_reason(text: str, says: str) -> None:
    assert says in reason_of(apply(SOURCE, text))


# ------------------------------------------------------------------------------------------------------ the hypothesis


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("HYPOTHESIS: more steps", "more steps"),
        ("**HYPOTHESIS:** more steps", "more steps"),
        ("**Hypothesis: more steps**", "more steps"),
        ("> - ## hypothesis : raise `DEPTH`", "raise `DEPTH`"),
        ("HYPOTHESIS: a\u202eb\x1b[31m\x00c\ud800", "a b [31m c"),
        ("HYPOTHESIS: " + "x" * 1000, "x" * (LONGEST_HYPOTHESIS - 1) + "…"),
    ],
)
def test_the_hypothesis_is_one_printable_line(line: str, says: str) -> None:
    outcome = apply(SOURCE, reply(block("WIDTH = 64", "WIDTH = 96"), hypothesis=line))
    assert isinstance(outcome, Edited)
    assert outcome.hypothesis == says


def test_the_last_hypothesis_counts_and_none_within_a_block_does() -> None:
    text = "HYPOTHESIS: one\nOr rather\nHYPOTHESIS: two\n" + block("WIDTH = 64", "HYPOTHESIS: int = 1")
    assert parse(text) == Parsed("two", (Block(("WIDTH = 64",), ("HYPOTHESIS: int = 1",)),), None)


# ---------------------------------------------------------------------------------------------------------- properties

MARKERS = ("<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE", "<<<<<<<<< SEARCH", "=========", ">>>>>>>>> REPLACE")
FENCES = ("```python", "```", "~~~", "</think>")
ORDINARY = ("HYPOTHESIS: h", "a", "b", "", "    return x", "\ud800", "é\u2028", "\x00")
NEWLINES = st.sampled_from(["\n", "\r\n", "\r"])
REPLIES = st.builds(
    lambda lines, newline: newline.join(lines), st.lists(st.sampled_from(MARKERS + FENCES + ORDINARY)), NEWLINES
)
LINES = st.lists(st.sampled_from(["a", "b", "", "  a", "é", "\t", *MARKERS[:3]]), max_size=12)


@settings(deadline=None)
@given(st.one_of(st.text(), LINES.map("\n".join)), st.one_of(st.text(), REPLIES))
def test_no_reply_raises(source: str, text: str) -> None:
    outcome = apply(source, text)
    if isinstance(outcome, Refused):
        reason_of(outcome)
    else:
        assert outcome.hypothesis.isprintable()
        assert outcome.source != source


@settings(deadline=None)
@given(LINES, LINES)
def test_a_difference_written_as_blocks_applies_back(old: list[str], new: list[str]) -> None:
    source, target = ("".join(f"{line}\n" for line in lines) for lines in (old, new))
    if source == target:
        return
    assert apply(source, reply(*as_blocks(old, new))) == Edited(target, "it is better")


def as_blocks(old: list[str], new: list[str]) -> list[str]:
    """Write the difference of two texts as blocks, each with enough lines around to have one place."""
    current, blocks, shift = list(old), [], 0
    for tag, start, end, low, high in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        first, last = start + shift, end + shift
        before, after = first, last
        while current and (before == after or places(current, current[before:after]) > 1):
            before, after = max(0, before - 1), min(len(current), after + 1)
        wanted = [*current[before:first], *new[low:high], *current[last:after]]
        search = current[before:after]
        blocks.append("\n".join(["<" * 8 + " SEARCH", *search, "=" * 8, *wanted, ">" * 8 + " REPLACE", ""]))
        current[before:after] = wanted
        shift += (high - low) - (end - start)
    assert current == new
    return blocks


def places(lines: list[str], part: list[str]) -> int:
    return sum(lines[index : index + len(part)] == part for index in range(len(lines) - len(part) + 1))


@given(st.text(), st.integers(1, 50))
def test_one_line_is_one_printable_line(text: str, longest: int) -> None:
    line = one_line(text, longest)
    assert line.isprintable()
    assert len(line) <= longest


# ----------------------------------------------------------------------------------------- replies as they really come

PROGRAM_OF_FOUR = "import torch\n\nA = 1\nB = 2\n\nprint(A, B)\n"


@pytest.mark.parametrize(
    "reply",
    [
        "<think>HYPOTHESIS: wrong\n<<<<<<< SEARCH\nno</think>HYPOTHESIS: h\n"
        "<<<<<<< SEARCH\nA = 1\n=======\nA = 3\n>>>>>>> REPLACE",
        "<think>\nlong\n</think>\n\nHYPOTHESIS: h\n<<<<<<< SEARCH\nA = 1\n=======\nA = 3\n>>>>>>> REPLACE\n",
        "HYPOTHESIS: h\r\n<<<<<<< SEARCH\r\nA = 1\r\n=======\r\nA = 3\r\n>>>>>>> REPLACE\r\n",
        "HYPOTHESIS: h\n```python\n<<<<<<< SEARCH\nA = 1   \n=======\nA = 3\n>>>>>>> REPLACE\n```",
        "**Hypothesis:** h\n\n```diff\n<<<<<<< SEARCH\nA = 1\n=======\nA = 3\n>>>>>>> REPLACE\n```\nThat is all.",
        "HYPOTHESIS: h\n\nimport torch\n\nA = 3\nB = 2\n\nprint(A, B)\n",
        "<thinking>hm</thinking>\nHYPOTHESIS: h\n~~~\nimport torch\n\nA = 3\nB = 2\n\nprint(A, B)\n~~~\n",
    ],
    ids=["inline thought", "thought", "crlf", "trailing spaces", "fenced", "bare file", "tilde fence"],
)
def test_replies_of_many_forms_say_the_same(reply: str) -> None:
    edited = apply(PROGRAM_OF_FOUR, reply)
    assert isinstance(edited, Edited), edited
    assert edited.source == PROGRAM_OF_FOUR.replace("A = 1", "A = 3")
    assert edited.hypothesis == "h"


def test_spaces_at_ends_of_lines_are_passed_over_only_where_the_place_is_unique() -> None:
    source = "A = 1  \nB = 2\nA = 1\n"
    assert isinstance(apply(source, "HYPOTHESIS: h\n<<<<<<< SEARCH\nA = 1\n=======\nA = 3\n>>>>>>> REPLACE"), Edited)
    twice = apply(source, "HYPOTHESIS: h\n<<<<<<< SEARCH\nA = 1 \n=======\nA = 3\n>>>>>>> REPLACE")
    assert isinstance(twice, Refused)
    assert "stand at several places" in twice.reason


def test_prose_is_no_program() -> None:
    for reply in ("HYPOTHESIS: h\nI would rather not.", "HYPOTHESIS: h\nyes\nno", "x = 1\ny = 2\nz = 3\nw = 4"):
        assert isinstance(apply(PROGRAM_OF_FOUR, reply), Refused)
