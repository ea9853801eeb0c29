from __future__ import annotations

from collections.abc import Callable

import hostile

from autoresearch_ray.explore import search
from autoresearch_ray.lineage.query import Lineage

Printed = Callable[..., list[str]]


def test_all_words_must_be_there_whatever_their_case(lineage: Lineage) -> None:
    word = lineage.hypotheses[-1].split()[0]
    found = search.search(lineage, word.upper())
    assert found["found"] >= 1
    assert all(word.casefold() in str(birth).casefold() for birth in found["births"])
    assert search.search(lineage, f"{word} zzzz")["births"] == []


def test_failed_births_are_found_by_their_reason(lineage: Lineage, printed: Printed) -> None:
    failed = search.search(lineage, "crashed")
    assert failed["births"]
    assert {birth["status"] for birth in failed["births"]} == {"crashed"}
    assert failed["births"][0]["reason"] in "\n".join(printed(search.draw(failed), 200))


def test_pages_follow_each_other(lineage: Lineage, printed: Printed) -> None:
    everything = [birth["variant_id"] for birth in search.search(lineage, "", limit=1000)["births"]]
    paged = [
        birth["variant_id"]
        for skip in range(0, len(everything), 7)
        for birth in search.search(lineage, "", limit=7, skip=skip)["births"]
    ]
    assert paged == everything
    assert "--skip 7 shows the next" in printed(search.draw(search.search(lineage, "", limit=7)))[-1]


def test_it_fits_eighty_columns_and_is_harmless(lineage: Lineage, printed: Printed) -> None:
    shown = search.search(lineage, "", limit=1000)
    shown["births"][0] |= {"hypothesis": hostile.TEXT, "reason": hostile.TEXT}
    lines = printed(search.draw(shown))
    assert max(map(len, lines)) <= 80
    assert not set(hostile.FORBIDDEN) & set("".join(lines))


def test_nothing_found_is_said(lineage: Lineage, printed: Printed) -> None:
    assert "no birth says 'zzzz'" in printed(search.draw(search.search(lineage, "zzzz")))[0]
