import ast

import pytest

from autoresearch_ray import variant


def test_ids_depend_on_run_and_number_alone() -> None:
    assert variant.variant_id("mar5", 3) == variant.variant_id("mar5", 3)
    assert len({variant.variant_id(run, number) for run in ("a", "b") for number in range(1000)}) == 2000
    assert len(variant.variant_id("mar5", 0)) == 12


def test_comments_layout_and_docstrings_do_not_change_the_ast_hash() -> None:
    plain = "def f(x):\n    return x + 1\nLR = 0.1\n"
    dressed = '"""Doc."""\n# c\ndef f( x ):\n    """Add."""\n    return (x+1)  # one\n\n\nLR=.1\n'
    assert variant.ast_hash(plain) == variant.ast_hash(dressed)
    assert variant.ast_hash(plain) != variant.ast_hash(plain.replace("0.1", "0.2"))
    assert variant.ast_hash('def f():\n    "only a docstring"\n') == variant.ast_hash("def f():\n    pass\n")


@pytest.mark.parametrize("source", ["def f(:", "x = '\0'", "(" * 5000, "x = " + "-" * 200_000 + "1"])
def test_what_does_not_parse_is_always_a_syntax_error(source: str) -> None:
    with pytest.raises(SyntaxError):
        variant.ast_hash(source)


def test_simplicity_counts_nodes_not_characters() -> None:
    assert variant.count_nodes("a = 1  # " + "x" * 100) == variant.count_nodes("a = 2")
    assert variant.count_nodes("a = 1") < variant.count_nodes("a = 1 + 1")


def test_parsing_survives_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython before 3.13 raises SystemError where two threads build a tree, or format a traceback, at one time."""
    calls, parse = [], ast.parse

    def collide(source: str) -> ast.Module:
        calls.append(source)
        if len(calls) < 4:
            raise SystemError("AST constructor recursion depth mismatch (before=36, after=41)")
        return parse(source)

    with monkeypatch.context() as patched:
        patched.setattr(ast, "parse", collide)
        tree = variant.parse("x = 1")
    assert ast.dump(tree) == ast.dump(ast.parse("x = 1"))
    assert len(calls) == 4
