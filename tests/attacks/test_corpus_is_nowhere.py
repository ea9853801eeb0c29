"""Looks for the corpus: all that a variant can read is compared, by path and by hash, with what it is scored on."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from arena import Arena
from fresh_module import load

from autoresearch_ray.training.sandbox.readable import access

DIGITS = 12


@dataclass(frozen=True)
class Corpus:
    """Files that nobody may read, and hashes that no readable file may have."""

    paths: tuple[str, ...]
    sizes: tuple[int, ...]
    hashes: tuple[str, ...]


@pytest.fixture(scope="module")
def corpus(walled: Arena) -> Corpus:
    """Every document of the corpus `python`, and every prepared file."""
    prepare = load()
    documents = {
        text.encode() for names in prepare.PACKAGES.values() for name in names for text in sources(prepare, name)
    }
    prepared = [path for path in walled.settings.data.iterdir() if path.is_file()]
    contents = [*documents, *(path.read_bytes() for path in prepared)]
    paths = [str(path) for path in prepared]
    for names in prepare.PACKAGES.values():
        paths += [str(file.locate()) for name in names for file in python_files(name)]
    hashes = sorted({hashlib.sha256(content).hexdigest()[:DIGITS] for content in contents})
    return Corpus(tuple(paths), tuple(sorted({len(content) for content in contents})), tuple(hashes))


def sources(prepare: object, name: str) -> Iterator[str]:
    yield from prepare.package_sources(name)  # type: ignore[attr-defined]


def python_files(name: str) -> Iterator[importlib.metadata.PackagePath]:
    yield from (file for file in importlib.metadata.distribution(name).files or () if file.suffix in (".py", ".pyc"))


SEARCH = """
import hashlib

def walk(root):
    if os.path.isfile(root):
        yield root
    for folder, _, names in os.walk(root):
        yield from (os.path.join(folder, name) for name in names)

def search():
    sizes, hashes, seen, read, found = set(FACTS["sizes"]), set(FACTS["hashes"]), set(), 0, []
    for root in FACTS["roots"]:
        for path in walk(root):
            if path.startswith(("/proc/", "/sys/", "/dev/")):
                continue
            try:
                at = os.stat(path)
                place = (at.st_dev, at.st_ino)
                if place in seen or seen.add(place) or at.st_size not in sizes:
                    continue
                with open(path, "rb") as file:
                    digest = hashlib.sha256(file.read()).hexdigest()[:FACTS["digits"]]
            except OSError:
                continue
            read += 1
            if digest in hashes:
                found.append(path)
    return len(seen), read, len(found), found[:3]

def readable(path):
    try:
        with open(path, "rb") as file:
            return file.read(1) is not None
    except OSError:
        return False

attempt("by hash", search)
attempt("by path", lambda: [path for path in FACTS["paths"] if readable(path)][:3])
"""


def search(arena: Arena, corpus: Corpus, roots: list[str]) -> tuple[int, int, int, list[str], list[str]]:
    facts = {"sizes": corpus.sizes, "hashes": corpus.hashes, "digits": DIGITS, "roots": roots}
    seen = arena.attack(SEARCH, paths=corpus.paths, **facts)
    seen.assert_trained_honestly()
    return (*eval(seen.done()["by hash"]), eval(seen.done()["by path"]))


def test_the_corpus_is_nowhere(walled: Arena, corpus: Corpus) -> None:
    allowed = access("cpu")
    roots = [*allowed.read, *allowed.listed, *(path for path in sys.path if os.path.isabs(path)), str(Path.home())]
    roots += ["/", *(f"/{name}" for name in os.listdir("/")), "/var/cache", sysconfig.get_path("purelib")]
    seen, read, matches, found, opened = search(walled, corpus, roots)
    assert seen > 5000, "it saw almost nothing: the search is broken"
    assert read > 100
    assert (matches, found) == (0, [])
    assert opened == []


def test_without_walls_it_is_found(unwalled: Arena, corpus: Corpus) -> None:
    root = str(importlib.metadata.distribution("rich").locate_file("rich"))
    _, _, matches, _, opened = search(unwalled, corpus, [root])
    assert matches > 10
    assert opened
