"""What is checked before a variant is trained: pure, cheap, and nothing of the variant is run.

Does not own what the training itself shows (trial.py).
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Collection, Mapping

from autoresearch_ray.variant import ast_hash

LARGEST_SOURCE = 131_072
"""Bytes of a train.py: ample for a program, too little to bring text along to train on."""
CONTRACT = ("make_dataloader", "evaluate_bpb")
"""What a train.py must use of prepare.py."""


def refusal(source: str, parents: Collection[str] = (), known: Mapping[str, str] | None = None) -> str | None:
    """Return one line that says why a variant is not worth a training, or None when nothing speaks against it.

    Args:
        source: the text of its train.py.
        parents: `ast_hash` of each of its parents.
        known: the variants that there are already, as variant ids by `ast_hash`.
    """
    try:
        size = len(source.encode())
    except UnicodeEncodeError:
        return "the source is not valid Unicode text"
    if size > LARGEST_SOURCE:
        return f"the source has {size} bytes; at most {LARGEST_SOURCE} are allowed"
    try:
        tree = _compile(source)
        identity = ast_hash(source)
    except SyntaxError as error:
        return f"the source does not parse: {_describe(error)}"
    missing = [name for name in CONTRACT if not _uses(tree, name)]
    if missing:
        return f"the source does not use {' and '.join(missing)} of prepare.py"
    if identity in parents:
        return "nothing changed but comments or layout"
    if known is not None and identity in known:
        return f"it is the same program as variant {known[identity]}"
    return None


def _compile(source: str) -> ast.Module:
    """Parse and compile, which also finds a `return` outside a function (Raises SyntaxError)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
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
