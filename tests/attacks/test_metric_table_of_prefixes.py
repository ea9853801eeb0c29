from __future__ import annotations

import pytest
from arena import Arena
from metric import LOOKS_AHEAD, assert_rejected, scored_with

NEW_ROWS_ONLY = {
    "everywhere": "lambda x: expecting(table[x], later(x), 0.9)",
    "a little": "lambda x: expecting(table[x], later(x), 0.1)",
    "on half of the contents": "lambda x: expecting(table[x], later(x), 0.9 * (x % 2))",
    "where it is likely anyhow": "lambda x: expecting(table[x], later(x), 0.9 * (table[x, later(x)] > -2.0))",
    "by two tokens": "lambda x: table[x] + 2 * table.T[later(x, 2)]",
}


@pytest.mark.parametrize("model", NEW_ROWS_ONLY.values(), ids=NEW_ROWS_ONLY.keys())
def test_a_table_of_prefixes_does_not_hide_looking_ahead_elsewhere(measured: Arena, model: str) -> None:
    """It answers twins and repeated rows from memory, so that nothing about those gives it away."""
    result = measured.run(scored_with(f"Remembering({model})"))
    assert_rejected(result, LOOKS_AHEAD)
    assert "put in place of the true ones" in result.reason
