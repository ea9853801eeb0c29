from __future__ import annotations

import pytest
from arena import Arena
from metric import LOOKS_AHEAD, assert_rejected, scored_with

SPOTTING = {
    "rows with many unlikely tokens": "(table[x[:, :-1], x[:, 1:]] < -4.5).float().mean(1, keepdim=True) > 0.38",
    "tokens that are unlikely here": "table[x, later(x)] < -4.0",
    "rows that were seen before": "torch.tensor([[tuple(row[:12]) in known] for row in x.tolist()])",
    "batches in which a row comes twice": "torch.full((len(x), 1), len(set(map(tuple, x.tolist()))) < len(x))",
}

CAREFUL = """
known = set()
def careful(x):
    "Looks ahead except where it fears a test."
    feared = SPOT
    known.update(tuple(row[:12]) for row in x.tolist())
    return expecting(table[x], later(x), 0.9 * ~feared)
"""


@pytest.mark.parametrize("spot", SPOTTING.values(), ids=SPOTTING.keys())
def test_who_tries_to_tell_tests_from_scored_rows_is_rejected(measured: Arena, spot: str) -> None:
    assert_rejected(measured.run(scored_with("careful", CAREFUL.replace("SPOT", spot))), LOOKS_AHEAD)


@pytest.mark.parametrize("spot", list(SPOTTING.values())[:2], ids=list(SPOTTING.keys())[:2])
def test_nor_does_a_table_of_prefixes_help(measured: Arena, spot: str) -> None:
    assert_rejected(measured.run(scored_with("Remembering(careful)", CAREFUL.replace("SPOT", spot))), LOOKS_AHEAD)
