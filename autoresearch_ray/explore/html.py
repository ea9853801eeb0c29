"""HTML and SVG as text, for pages that are files: every text and attribute is escaped here, and no script is ever made.

Does not own what a page says (page.py, champion.py).
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path

from autoresearch_ray.explore import text

STYLE = Path(__file__).with_name("page.css")
"""Put into each page whole: the file needs nothing else."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_EMPTY = frozenset({"meta", "line", "circle", "rect", "path"})


class Markup(str):
    """Text that is markup already, made by this module only."""

    __slots__ = ()


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """Return an element; `class_` and `stroke_width` are the attributes `class` and `stroke-width`.

    Children that are not Markup are escaped; None is left out, and lists are taken apart.
    """
    named = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(text.plain(str(value)))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _EMPTY and not children:
        return Markup(f"<{tag}{named}/>" if tag != "meta" else f"<{tag}{named}>")
    return Markup(f"<{tag}{named}>{''.join(_pieces(children))}</{tag}>")


def _pieces(children: Iterable[object]) -> Iterable[str]:
    for child in children:
        if isinstance(child, Markup):
            yield child
        elif isinstance(child, (list, tuple)):
            yield from _pieces(child)
        elif child is not None:
            yield html.escape(text.block(str(child)))


def document(title: str, *body: object) -> str:
    """Return a whole page that needs nothing else: no script, no font, no picture from anywhere."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", text.plain(title)),
        Markup(f"<style>{STYLE.read_text(encoding='utf-8')}</style>"),
    )
    return f'<!doctype html>\n<html lang="en">{head}{element("body", element("main", *body))}</html>\n'


def table(names: Iterable[str], rows: Iterable[Iterable[object]], numeric: Iterable[int] = ()) -> Markup:
    """Return a table; `numeric` are the places of columns that stand to the right.

    A cell knows its column's name, for small screens, where each row is a block of its own.
    """
    right, named = set(numeric), list(names)

    def cell(tag: str, place: int, content: object, name: str | None = None) -> Markup:
        return element(tag, content, class_="num" if place in right else None, data_name=name or None)

    head = element("thead", element("tr", [cell("th", place, name) for place, name in enumerate(named)]))
    body = [
        element(
            "tr",
            [cell("td", place, content, name) for place, (content, name) in enumerate(zip(row, named, strict=True))],
        )
        for row in rows
    ]
    return element("div", element("table", head, element("tbody", body)), class_="scroll")


def difference(lines: Iterable[str]) -> Markup:
    """Return a unified difference in colour."""
    kinds = {"+": "add", "-": "cut"}
    return element("pre", [element("span", line or " ", class_=kinds.get(line[:1])) for line in lines])
