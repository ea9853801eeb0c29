"""Commits as the commands of `git fast-import`: lengths before contents, so that no text can break out of its place.

Owns names of refs and the author. Does not own what is committed (projection.py) or git's processes (repository.py).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from autoresearch_ray.lineage.schema import clean

AUTHOR = "autoresearch-ray <autoresearch-ray@localhost>"
"""Who made every commit, whoever runs the program: the same lineage gives the same commits."""

FILE = "train.py"
NOTES = "refs/notes/commits"
"""Where `git log` looks for notes by itself."""

DONE = b"done\n"
"""Ends a stream; without it fast-import keeps nothing, so that half a stream is none."""

_PLAIN = re.compile(r"[0-9a-z][0-9a-z_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit that a ref is made to point to."""

    ref: str
    parents: tuple[str, ...]
    """The parents' refs, in their order; each earlier in the stream or in the repository already."""
    message: str
    at: datetime


def variant_ref(variant_id: str) -> str:
    """Return the ref of a variant; an id that could be another path or an option gives way to its hash."""
    plain = variant_id if _PLAIN.fullmatch(variant_id) else f"id-{_digest(variant_id)}"
    return f"refs/variants/{plain}"


def branch_ref(name: str) -> str:
    """Return the ref of a branch."""
    return f"refs/heads/{name}"


def commit(made: Commit, source: str) -> bytes:
    """Return the command that commits a source as the one file of its tree."""
    lines = [b"commit %s\n" % made.ref.encode(), _people(made.at, "author", "committer"), _data(made.message)]
    for word, parent in zip(("from", *("merge",) * len(made.parents)), made.parents, strict=False):
        lines.append(f"{word} {parent}\n".encode())
    return b"".join([*lines, f"M 100644 inline {FILE}\n".encode(), _data(source), b"\n"])


def point(ref: str, target: str) -> bytes:
    """Return the command that makes a ref point to where another one does."""
    return f"reset {ref}\nfrom {target}\n\n".encode()


def annotate(notes: Mapping[str, str], at: datetime, *, afresh: bool) -> bytes:
    """Return the command that attaches notes to commits.

    Args:
        notes: texts by the ref of the commit.
        at: when the notes were true.
        afresh: forget all earlier notes.
    """
    head = [f"commit {NOTES}\n".encode(), _people(at, "committer"), _data("Later scores\n")]
    if not afresh:
        head.append(f"from {NOTES}^0\n".encode())
    return b"".join([*head, *(b"N inline %s\n" % ref.encode() + _data(text) for ref, text in notes.items()), b"\n"])


def _people(at: datetime, *roles: str) -> bytes:
    seconds = max(0, int(at.timestamp()))
    return "".join(f"{role} {AUTHOR} {seconds} +0000\n" for role in roles).encode()


def _data(text: str) -> bytes:
    data = clean(text).encode()
    return b"data %d\n%s\n" % (len(data), data)


def _digest(text: str) -> str:
    return hashlib.blake2b(clean(text).encode(), digest_size=12).hexdigest()
