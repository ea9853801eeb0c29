"""The champion to take home: its program, one patch, a repository of the ideas that survived, and the evidence.

Owns what is in the folder. Does not own git's processes (lineage/repository.py) or markup (html.py).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autoresearch_ray.errors import UsageError
from autoresearch_ray.explore import page, text
from autoresearch_ray.explore.html import Markup, document, element, table
from autoresearch_ray.lineage import fast_import, git_export
from autoresearch_ray.lineage.fast_import import Commit
from autoresearch_ray.lineage.projection import one_line
from autoresearch_ray.lineage.projector import Segment
from autoresearch_ray.lineage.query import Lineage
from autoresearch_ray.lineage.schema import Row

PROGRAM, PATCH, EVIDENCE, REPOSITORY = "train.py", "champion.patch", "evidence.html", "repository"

_UNCONFIRMED = """Not confirmed: the best of many single trainings is lucky.
Train it again on fresh seeds before you believe the gain."""
_FOOTNOTE = (
    "± is a standard error; ? marks a gain that may be luck. Unverified scores were reported by the program itself."
)


@dataclass(frozen=True, slots=True)
class Taken:
    """What was written."""

    out: Path
    variant_id: str
    confirmed: bool
    commits: int


def take(lineage: Lineage, out: Path) -> Taken:
    """Write the champion, or the best variant while nothing is confirmed, into a new folder.

    `train.py` is its program, `champion.patch` its whole change against the seed (`git apply` takes it), `repository`
    has one commit for each idea on its path, `evidence.html` its trainings, its holdout and what each step brought.

    Args:
        lineage: the run.
        out: a folder that is empty or does not exist.

    Raises:
        UsageError: nothing was scored yet, its source is lost, or `out` is in use or cannot be written.
        RepositoryError: git is not installed or failed.
    """
    leader, seed = lineage.leader, lineage.seed
    if leader is None or seed is None:
        raise UsageError(f"{lineage.tables.run} has no champion to take home: nothing has been scored yet.")
    way = lineage.path(leader)
    sources = {place: lineage.source(place) for place in {*way, seed}}
    lost = [lineage.ids[place] for place in way if not sources[place]]
    if lost:
        raise UsageError(
            f"the source of {', '.join(lost)} is not in the lineage: its part is damaged, or was never known."
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise UsageError(f"{out} is not empty: name a new folder.")
        written = git_export.write(out / REPOSITORY, [_history(lineage, way, sources)])
        (out / PROGRAM).write_text(sources[leader], encoding="utf-8")
        (out / PATCH).write_text(patch(sources[seed], sources[leader]), encoding="utf-8")
        (out / EVIDENCE).write_text(evidence(lineage, way), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error.strerror or error}).") from error
    return Taken(out, lineage.ids[leader], lineage.champion is not None, written.commits)


def patch(before: str, after: str) -> str:
    """Return a patch from one program to another, as `git apply` and `patch -p1` take it."""
    lines = difflib.unified_diff(_lines(before), _lines(after), f"a/{PROGRAM}", f"b/{PROGRAM}")
    whole = "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
    return f"diff --git a/{PROGRAM} b/{PROGRAM}\n{whole}" if whole else ""


def _lines(source: str) -> list[str]:
    """Return lines with their ends, split at line feeds only, as git does."""
    parts = source.split("\n")
    return [f"{part}\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _history(lineage: Lineage, way: list[int], sources: dict[int, str]) -> Segment:
    """Return one commit a step of the path, each the child of the one before: a stream goes on where its branch is."""
    branch = fast_import.branch_ref("champion" if lineage.champion is not None else "best")

    def stream() -> Iterator[bytes]:
        for place in way:
            at = lineage.row(place)["created_at"]
            yield fast_import.commit(Commit(branch, (), _message(lineage, place), at), sources[place])
        yield fast_import.DONE

    return Segment(stream(), len(way), branch)


def _message(lineage: Lineage, place: int) -> str:
    row = lineage.row(place)
    score, parent = lineage.score(place), int(lineage.primary[place])
    subject = one_line(row["hypothesis"])[:100] or "(no hypothesis)"
    lines = [f"{lineage.metric} {text.score(score)}"] if score else []
    value, error = lineage.gain(place, parent), lineage.gain_error(place, parent)
    if value is not None:
        spread = "" if error is None else f" ±{error:.4f}"
        lines.append(
            f"Change {text.signed(value, lower=lineage.lower_is_better)}{spread} against {lineage.ids[parent]}"
        )
    others = [name for name in row["parents"] if parent >= 0 and name != lineage.ids[parent]]
    lines += [f"Second-Parent: {one_line(name)}" for name in others]
    lines += [f"Variant-Id: {row['variant_id']}", f"Operator: {one_line(row['operator'])}"]
    return "\n\n".join([subject, one_line(row["hypothesis"]), "\n".join(lines)]) + "\n"


# ------------------------------------------------------------------------------------------------------------ evidence


def evidence(lineage: Lineage, way: list[int]) -> str:
    """Return a page that says why the end of a path is believed: its trainings, its holdout, what each step brought."""
    leader = way[-1]
    name = text.short(lineage.ids[leader])
    body: list[Markup] = [
        element("h1", f"{text.plain(lineage.tables.run)}: {name}"),
        element("p", lineage.hypotheses[leader]),
    ]
    body.append(_verdict(lineage, leader))
    body += [element("h2", "Its trainings"), _trainings(lineage, leader)]
    if lineage.seed is not None and lineage.seed != leader:
        body += [element("h2", "The seed's trainings"), _trainings(lineage, lineage.seed)]
    body += [element("h2", "What each step brought"), _steps(lineage, way)]
    body.append(element("p", _FOOTNOTE, class_="faint"))
    return document(f"{lineage.tables.run}: evidence", *body)


def _verdict(lineage: Lineage, leader: int) -> Markup:
    rows = [row for row in lineage.tables.champions.to_pylist() if row["variant_id"] == lineage.ids[leader]]
    if not rows or lineage.champion is None:
        return element("p", _UNCONFIRMED, class_="warn")
    row = rows[-1]
    return element(
        "p",
        f"Confirmed as champion on {row['confirmed_at']:%Y-%m-%d %H:%M} UTC with P(better) {row['p_better']:.3f}; "
        f"its mean is {row['posterior_mean']:.4f} ±{row['posterior_sd']:.4f}{_count(row)}.{_fresh(row)}",
        class_="good",
    )


def _count(row: Row) -> str:
    trainings = row.get("trainings")
    return f" over {trainings} trainings on fresh seeds" if trainings else ""


def _fresh(row: Row) -> str:
    """Return what the challenge measured, in runs that keep it."""
    if row.get("gain") is None or row.get("gain_sd") is None:
        return ""
    against = text.short(row.get("against") or "the seed")
    return f" On fresh seeds it was better than {against} by {row['gain']:.4f} ±{row['gain_sd']:.4f}."


def _trainings(lineage: Lineage, place: int) -> Markup:
    rows = [
        [
            "-" if each["seed"] is None else each["seed"],
            text.number(each["val_bpb"], 6) if each["val_bpb"] is not None else text.status(each["status"]),
            text.number(each["holdout_bpb"], 6),
            text.seconds(each["train_seconds"]),
            text.quantity(each["tokens"]),
            text.plain(each["gpu"] or each["node"] or each["hardware"]),
            "" if each["verified"] else "unverified",
        ]
        for each in lineage.experiments(place)
    ]
    return table(("seed", lineage.metric, "holdout", "trained", "tokens", "where", ""), rows)


def _steps(lineage: Lineage, way: list[int]) -> Markup:
    rows = []
    for place in way:
        parent = int(lineage.primary[place])
        rows.append(
            [
                element("code", text.short(lineage.ids[place])),
                text.score(lineage.score(place)),
                page.gain(lineage, place, parent) if parent >= 0 else "",
                page.gain(lineage, place, way[0]) if place != way[0] else "",
                text.plain(lineage.hypotheses[place]),
            ]
        )
    return table(("variant", "score ± (trainings)", "change", "so far", "what changed"), rows)
