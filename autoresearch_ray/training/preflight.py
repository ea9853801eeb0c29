"""What is checked before a variant is trained: pure, cheap, and nothing of the variant is run.

Does not own what the training itself shows (trial.py).
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from autoresearch_ray.variant import ast_hash, parse, source_hash

LARGEST_SOURCE = 131_072
"""Bytes of a train.py: ample for a program, too little to bring text along to train on."""
CONTRACT = ("make_dataloader", "evaluate_bpb")
"""What a train.py must use of prepare.py."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a look at a source, without running it, says."""

    refusal: str | None
    """Why it is not worth a training, in one sentence; None when nothing speaks against it."""
    identity: str | None
    """What two sources share that are the same program, the `ast_hash` of Python; None when it does not parse."""


def inspector(file: str, *, scored: bool) -> Callable[[str], Inspected]:
    """Return how variants of that file are looked at: those that the supervisor scores, or that report their score."""
    return inspect if scored else partial(inspect_reported, name=file)


def inspect(source: str) -> Inspected:
    """Look at the text of a train.py once: size, syntax, the contract with prepare.py, and its identity."""
    if unfit := _unfit(source):
        return Inspected(unfit, None)
    try:
        tree = _compile(source)
        identity = ast_hash(source)
    except SyntaxError as error:
        return Inspected(f"the source does not parse: {_describe(error)}", None)
    missing = [name for name in CONTRACT if not _uses(tree, name)]
    refusal = f"the source does not use {' and '.join(missing)} of prepare.py" if missing else None
    return Inspected(refusal, identity)


def inspect_reported(source: str, name: str) -> Inspected:
    """Look at the text of a program that reports its own score: size, and syntax if it is Python by its name.

    Comments and layout make no other program of Python; of anything else, every byte counts.
    """
    if unfit := _unfit(source):
        return Inspected(unfit, None)
    if not name.endswith(".py"):
        return Inspected(None, source_hash(source))
    try:
        _compile(source)
        return Inspected(None, ast_hash(source))
    except SyntaxError as error:
        return Inspected(f"the source does not parse: {_describe(error)}", None)


def refusal(source: str) -> str | None:
    """Return why a train.py is not worth a training, or None when nothing speaks against it."""
    return inspect(source).refusal


def _unfit(source: str) -> str | None:
    """Return why a text cannot be a program of any kind."""
    try:
        size = len(source.encode())
    except UnicodeEncodeError:
        return "the source is not valid Unicode text"
    if size > LARGEST_SOURCE:
        return f"the source has {size} bytes; at most {LARGEST_SOURCE} are allowed"
    return None


def _compile(source: str) -> ast.Module:
    """Parse and compile, which also finds a `return` outside a function (Raises SyntaxError)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = parse(source)
            compile(source, "train.py", "exec", dont_inherit=True)
    except (ValueError, RecursionError, MemoryError) as error:
        raise SyntaxError(str(error) or "it is nested too deeply") from error
    return tree


def _describe(error: SyntaxError) -> str:
    place = f" (line {error.lineno})" if error.lineno else ""
    return f"{error.msg}{place}"


def _uses(tree: ast.Module, name: str) -> bool:
    """Return whether `name` is imported from prepare, or prepare itself is, and the program then mentions it."""
    imported = any(
        (isinstance(node, ast.ImportFrom) and node.module == "prepare")
        or (isinstance(node, ast.Import) and any(alias.name == "prepare" for alias in node.names))
        for node in ast.walk(tree)
    )
    mentioned = any(
        (isinstance(node, ast.Name) and node.id == name)
        or (isinstance(node, ast.Attribute) and node.attr == name)
        or (isinstance(node, ast.alias) and node.name == name and node.asname is not None)
        for node in ast.walk(tree)
    )
    return imported and mentioned
