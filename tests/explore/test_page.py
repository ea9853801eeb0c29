import re
from html.parser import HTMLParser
from pathlib import Path

import hostile
import pytest
import synthetic

from autoresearch_ray.explore import html, page
from autoresearch_ray.lineage import schema
from autoresearch_ray.lineage.query import Lineage
from autoresearch_ray.lineage.store import LineageStore
from autoresearch_ray.variant import Result, Status

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(1)>\"' onload='x" + hostile.TEXT


class Reader(HTMLParser):
    """Collects what a browser would take for elements, and checks that they are closed in their order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_report_needs_nothing_else_and_runs_nothing(lineage: Lineage) -> None:
    text = page.page(lineage)
    read = Reader(text)
    assert not {"script", "link", "iframe", "img", "object", "form"} & set(read.tags)
    assert not any(name.startswith("on") or name in ("src", "href") for name, _ in read.attributes)
    assert not re.search(r"https?://|url\(|@import", text)
    assert "default-src 'none'" in text.replace("&#x27;", "'")


def test_the_report_says_who_won_and_how(lineage: Lineage) -> None:
    words = " ".join(Reader(page.page(lineage)).words)
    assert lineage.champion is not None
    assert "The champion is " + lineage.ids[lineage.champion][:7] in words
    for place in lineage.path(lineage.champion):
        assert lineage.hypotheses[place] in words
    assert "What failed" in words
    assert f"σ {lineage.sigma:.4f}" in words


def test_a_run_without_a_champion_says_so(tmp_path: Path) -> None:
    lineage = Lineage.open(synthetic.make(tmp_path / "run", 30, champion=False))
    assert "not confirmed on fresh seeds" in page.page(lineage)


@pytest.mark.parametrize("births", [0, 1])
def test_an_empty_run_and_one_of_a_seed(tmp_path: Path, births: int) -> None:
    with LineageStore.create(tmp_path / "run", "run") as store:
        synthetic.Evolution(run="run").record(store, births)
        read = Reader(page.page(Lineage.open(tmp_path / "run")))
    assert "svg" in read.tags


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    with LineageStore.create(tmp_path / "run", ATTACK) as store:
        seed = synthetic.variant(0, run="run", hypothesis=ATTACK, source=ATTACK)
        child = synthetic.variant(1, (seed,), run="run", hypothesis=ATTACK, source=f"{ATTACK}\nx")
        for born, score in ((seed, 2.0), (child, 1.0)):
            result = Result(Status.COMPLETED, val_bpb=score, node=ATTACK)
            store.append("experiments", schema.experiment_row(synthetic.origin(), synthetic.experiment(born), result))
            store.append("variants", schema.variant_row(synthetic.origin(), born, Status.COMPLETED))
        failed = synthetic.variant(2, (seed,), run="run", hypothesis=ATTACK)
        store.append("variants", schema.variant_row(synthetic.origin(), failed, Status.CRASHED, ATTACK))
    read = Reader(page.page(Lineage.open(tmp_path / "run")))
    assert not {"script", "img"} & set(read.tags)
    assert any("<script>alert(1)</script>" in words for words in read.words)
    assert not set(hostile.FORBIDDEN) & set("".join(read.words))


def test_attributes_and_children_are_escaped() -> None:
    made = html.element("p", "<b>", [html.element("i", "&")], None, class_='"><script>')
    assert made == '<p class="&quot;&gt;&lt;script&gt;">&lt;b&gt;<i>&amp;</i></p>'
