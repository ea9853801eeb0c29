"""The phylogeny in a terminal: what led somewhere is drawn, the rest is counted.

Owns which variants are drawn and how. Does not own descent or scores (lineage/query.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from autoresearch_ray.explore import text
from autoresearch_ray.explore.standing import standing
from autoresearch_ray.lineage.query import Lineage, Score

BEST_KEPT = 5
"""The best variants count as having led somewhere, even if none was the best when it was scored."""

_WIDEST_INDENT = 16
_ROOM_FOR_ERRORS = 100
"""Columns of a terminal from which on gains are drawn with their standard errors."""

_Line = tuple[str, dict[str, Any] | str, str]
"""What stands left of a line, the node or the words on it, and the style of words."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which variants to draw; None leaves a property free. Their ancestors are drawn too, faintly."""

    island: int | None = None
    operator: str | None = None
    status: str | None = None
    generation: tuple[int, int] | None = None
    """First and last generation, both included."""
    model: str | None = None
    """A language model's name, or the end of it: `claude-sonnet-4-5` is enough."""

    @property
    def active(self) -> bool:
        """True when anything is filtered."""
        return self != Filters()

    def matches(self, lineage: Lineage) -> npt.NDArray[np.bool_]:
        """Return which variants pass, by position."""
        passed = np.ones(len(lineage), dtype=bool)
        if self.island is not None:
            passed &= lineage.equal("island", self.island)
        if self.operator is not None:
            passed &= lineage.equal("operator", self.operator)
        if self.status is not None:
            passed &= lineage.equal("status", self.status)
        if self.generation is not None:
            passed &= (lineage.generations >= self.generation[0]) & (lineage.generations <= self.generation[1])
        if self.model is not None:
            models = [model for model in lineage.tally("model") if _names(self.model, model)]
            passed &= np.any([lineage.equal("model", model) for model in models], axis=0) if models else False
        return passed


def _names(wanted: str, model: str | None) -> bool:
    return model is not None and (model == wanted or model.endswith(f"/{wanted}"))


def phylogeny(
    lineage: Lineage, filters: Filters | None = None, *, everything: bool = False, limit: int = 200
) -> dict[str, Any]:
    """Return the tree as plain values.

    A variant led somewhere if it, or one of its descendants, was the best so far when it was scored or is among the
    best now. `nodes` holds those in an order in which parents come first; what hangs below a node and is not drawn is
    counted in its `hidden`, by status.

    Args:
        lineage: the run.
        filters: draw what passes, and its ancestors, whether it led anywhere or not.
        everything: draw every variant.
        limit: draw at most so many, the way to the best first, then those with the most to show below them.
    """
    filters = filters or Filters()
    matching = filters.matches(lineage)
    wanted = matching if filters.active or everything else _led_somewhere(lineage)
    kept = _with_ancestors(lineage, wanted)
    drawn = _limited(lineage, kept, limit)
    owner = _owners(lineage, drawn)
    hidden = _hidden_below(lineage, owner, drawn)
    best = standing(lineage)
    way = set(lineage.path(lineage.leader)) if lineage.leader is not None else set()
    ordered = np.argsort(lineage.generations, kind="stable")
    order = [int(place) for place in ordered[drawn[ordered]]]
    return {
        "run": lineage.tables.run,
        "births": len(lineage),
        "statuses": lineage.tally("status"),
        "sigma": lineage.sigma,
        "leader": None if lineage.leader is None else node(lineage, lineage.leader),
        "confirmed": lineage.champion is not None,
        "score": None if best is None or best.score is None else asdict(best.score),
        "gain": None if best is None else best.gain,
        "gain_error": None if best is None else best.gain_error,
        "nodes": [
            {
                **entry,
                "on_path": position in way,
                "faint": bool(filters.active and not matching[position]),
                "hidden": hidden.get(position, {}),
            }
            for position, entry in zip(order, nodes(lineage, order), strict=True)
        ],
        "hidden": hidden.get(-1, {}),
        "filtered": filters.active,
        "cut": int(kept.sum() - drawn.sum()),
        "damage": list(lineage.tables.damage),
    }


def node(lineage: Lineage, position: int) -> dict[str, Any]:
    """Return what a line about a variant says, as plain values."""
    return nodes(lineage, [position])[0]


_ROW_SAYS = (
    *("variant_id", "number", "parents", "island", "generation"),
    *("operator", "model", "status", "reason", "hypothesis"),
)


def nodes(lineage: Lineage, positions: Sequence[int]) -> list[dict[str, Any]]:
    """Return what `node` does for many variants, faster than one by one."""
    rows = lineage.rows(positions, _ROW_SAYS)
    parents = lineage.rows(lineage.primary[list(positions)], ["variant_id"])
    return [
        {**row, "parent": parent["variant_id"], **_measurements(lineage, position)}
        for position, row, parent in zip(positions, rows, parents, strict=True)
    ]


def _measurements(lineage: Lineage, position: int) -> dict[str, Any]:
    score = lineage.score(position)
    primary = int(lineage.primary[position])
    return {
        "val_bpb": score.mean if score else None,
        "standard_error": score.error if score else None,
        "replicates": score.count if score else 0,
        "gain": lineage.gain(position, primary),
        "gain_error": lineage.gain_error(position, primary),
        "champion": position == lineage.champion,
        "lower_is_better": lineage.lower_is_better,
    }


def _led_somewhere(lineage: Lineage) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = lineage.records.copy()
    found[lineage.best(BEST_KEPT)] = True
    if lineage.leader is not None:
        found[lineage.leader] = True
    if lineage.seed is not None:
        found[lineage.seed] = True
    return found


def _with_ancestors(lineage: Lineage, wanted: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    kept: npt.NDArray[np.bool_] = wanted.copy()
    for level in reversed(lineage.levels):
        parents = lineage.primary[level[kept[level]]]
        kept[parents[parents >= 0]] = True
    return kept


def _limited(lineage: Lineage, kept: npt.NDArray[np.bool_], limit: int) -> npt.NDArray[np.bool_]:
    """Return the most telling of the kept variants; a parent always before its children."""
    if int(kept.sum()) <= limit:
        return kept
    weight = kept.astype(np.int64)
    for level in reversed(lineage.levels):
        below = level[lineage.primary[level] >= 0]
        np.add.at(weight, lineage.primary[below], weight[below])
    if lineage.leader is not None:
        weight[lineage.path(lineage.leader)] = len(lineage) + 1
    order = np.lexsort((lineage.generations, -weight))
    drawn = np.zeros(len(kept), dtype=bool)
    drawn[order[kept[order]][:limit]] = True
    return drawn


def _owners(lineage: Lineage, drawn: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return the nearest drawn ancestor of each variant, itself included; -1 if there is none."""
    owner = np.full(len(drawn), -1, dtype=np.int64)
    for level in lineage.levels:
        parents = lineage.primary[level]
        above = np.where(parents >= 0, owner[parents], -1)
        owner[level] = np.where(drawn[level], level, above)
    return owner


def _hidden_below(
    lineage: Lineage, owner: npt.NDArray[np.int64], drawn: npt.NDArray[np.bool_]
) -> dict[int, dict[str, int]]:
    """Return how many variants are not drawn, by the drawn ancestor that stands for them and by status."""
    found: dict[int, dict[str, int]] = defaultdict(dict)
    for status in lineage.tally("status"):
        owners, counts = np.unique(owner[~drawn & lineage.equal("status", status)], return_counts=True)
        for place, count in zip(owners.tolist(), counts.tolist(), strict=True):
            found[place][status] = count
    return found


# ----------------------------------------------------------------------------------------------------------- drawing


@dataclass(slots=True)
class _Branch:
    """A drawn variant with its drawn children: the one that its line goes on to, and those that branch off."""

    node: dict[str, Any]
    weight: int = 1
    children: list[_Branch] = field(default_factory=list)

    def onward(self) -> tuple[_Branch | None, list[_Branch]]:
        """Return the child that continues this line (the way to the best, else the one with most below), and others."""
        if not self.children:
            return None, []
        heir = max(self.children, key=lambda child: (child.node["on_path"], child.weight, -child.node["number"]))
        return heir, [child for child in self.children if child is not heir]


def draw(shown: dict[str, Any]) -> RenderableType:
    """Draw what `phylogeny` returned.

    A line of descent runs straight down and what branches off is indented, so that the indent grows with the logarithm
    of the tree and not with its generations. Where there is room, gains have their standard error too.
    """
    return _Drawing(shown)


class _Drawing:
    def __init__(self, shown: dict[str, Any]) -> None:
        self._shown = shown

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from _drawn(self._shown, wide=options.max_width >= _ROOM_FOR_ERRORS)


def _drawn(shown: dict[str, Any], wide: bool) -> Iterator[Text]:
    rest = "not matching" if shown["filtered"] else "that led nowhere"
    rows: list[_Line] = []
    for root in _branches(shown["nodes"]):
        rows += _lines(root, "", rest)
    if shown["hidden"]:
        rows.append(("", _hidden(shown["hidden"], rest), "dim"))
    indent = min(max((len(guide) for guide, what, _ in rows if not isinstance(what, str)), default=0), _WIDEST_INDENT)
    lines = [_headline(shown)]
    lines += [_text_line(guide, what, style, indent, wide) for guide, what, style in rows]
    if shown["cut"]:
        lines.append(Text(f"{shown['cut']} more led somewhere; a higher limit shows them.", style="dim"))
    lines += [Text(text.plain(sentence), style="yellow") for sentence in shown["damage"]]
    if shown["nodes"]:
        mark = "★ champion, ◆ the way to it" if shown["confirmed"] else "◆ the way to the best (unconfirmed)"
        lines.append(Text(f"{mark}; ± standard error (trainings); ? may be luck", style="dim"))
    yield from (_cut(entry) for entry in lines)


def _branches(nodes: Sequence[dict[str, Any]]) -> list[_Branch]:
    branches = {entry["variant_id"]: _Branch(entry) for entry in nodes}
    roots = []
    for branch in branches.values():
        parent = branches.get(branch.node["parent"])
        if parent is None:
            roots.append(branch)
        else:
            parent.children.append(branch)
    for branch in reversed(list(branches.values())):
        if branch.node["parent"] in branches:
            branches[branch.node["parent"]].weight += branch.weight
    return roots


def _lines(root: _Branch, guide: str, rest: str) -> Iterator[_Line]:
    """Yield one line of descent from top to bottom; `rest` says what the counted ones have in common."""
    branch: _Branch | None = root
    first = True
    while branch is not None:
        heir, others = branch.onward()
        yield (guide if first else guide.replace("├─", "│ ").replace("└─", "  ")) + _glyph(branch.node), branch.node, ""
        inner = guide.replace("├─", "│ ").replace("└─", "  ")
        tail = _hidden(branch.node["hidden"], rest)
        for place, other in enumerate(sorted(others, key=lambda child: child.node["number"])):
            last = heir is None and not tail and place == len(others) - 1
            yield from _lines(other, inner + ("└─" if last else "├─"), rest)
        if tail:
            yield inner + ("└─" if heir is None else "├─"), tail, "dim"
        branch, first = heir, False


def _glyph(entry: dict[str, Any]) -> str:
    if entry["champion"]:
        return "★"
    return "◆" if entry["on_path"] else "●" if entry["val_bpb"] is not None else "○"


def _hidden(counts: dict[str, int], rest: str) -> str:
    total = sum(counts.values())
    if not total:
        return ""
    words = ", ".join(f"{counts[word]} {text.status(word)}" for word in sorted(counts) if word != "completed")
    return f"+{total} {rest}" + (f" ({words})" if words else "")


def _headline(shown: dict[str, Any]) -> Text:
    counts = ", ".join(f"{count} {text.status(word)}" for word, count in sorted(shown["statuses"].items()))
    head = Text(f"{text.plain(shown['run'])}: {shown['births']} births ({counts})" if counts else "no births yet")
    leader = shown["leader"]
    if leader is not None:
        what = "champion" if shown["confirmed"] else "best, unconfirmed:"
        score = None if shown["score"] is None else Score(**shown["score"])
        head.append(f"; {what} {text.short(leader['variant_id'])} {text.score(score)}")
        if shown["gain"] is not None and leader["parents"]:
            gain = text.gain_and_error(shown["gain"], shown["gain_error"], lower=leader["lower_is_better"])
            head.append(f", {gain.plain} against the seed")
    head.no_wrap = False
    return head


def _text_line(guide: str, what: dict[str, Any] | str, style: str, indent: int, wide: bool) -> Text:
    if isinstance(what, str):
        return Text(f"{guide} {what}", style=style)
    faint, on_path = what["faint"], what["on_path"]
    line = Text(guide.ljust(indent), style="dim" if faint else "")
    if on_path:
        line.stylize("bold green")
    line.append(f" {text.short(what['variant_id'])}", style="bold" if on_path else "")
    line.append(f" {what['operator']:<10}", style="cyan")
    line.append_text(_measured(what, wide))
    if len(what["parents"]) > 1:
        other = next((parent for parent in what["parents"] if parent != what["parent"]), what["parents"][1])
        line.append(f" ×{text.short(other)}", style="magenta")
    line.append(f" {text.plain(what['hypothesis'])}")
    if what["reason"]:
        line.append(f" ({text.plain(what['reason'])})", style="dim")
    if faint:
        line.stylize("dim")
    return line


def _measured(entry: dict[str, Any], wide: bool) -> Text:
    """Return the columns of score and gain, all of one width; the status in their place if there is no score."""
    room = 16 if wide else 8
    if entry["val_bpb"] is None or entry["status"] != "completed":
        return Text(f" {text.status(entry['status']):<{room + 19}}", style=text.STYLES.get(entry["status"], ""))
    error = "" if entry["standard_error"] is None else f" ±{entry['standard_error']:.4f}"
    score = f"{entry['val_bpb']:.4f}{error} ({entry['replicates']})"
    line = Text(f" {score:<18}")
    draw_gain = text.gain_and_error if wide else text.gain_text
    gain = draw_gain(entry["gain"], entry["gain_error"], lower=entry["lower_is_better"])
    gain.pad_right(max(0, room - len(gain)))
    return line.append(" ").append_text(gain)


def _cut(line: Text) -> Text:
    if line.no_wrap is None:
        line.no_wrap, line.overflow = True, "ellipsis"
    return line
