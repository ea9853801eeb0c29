from __future__ import annotations

from dataclasses import replace

import pytest

from autoresearch_ray.training.block import Claims
from autoresearch_ray.training.claims import Measured, disagreements

MEASURED = Measured(
    val_bpb=3.81234, tokens=400_000, steps=200, train_seconds=10.0, longest_training=17.0, wall_seconds=21.0
)


@pytest.mark.parametrize(
    ("claimed", "flag"),
    [
        ({}, ""),
        ({"val_bpb": "3.812340"}, ""),
        ({"val_bpb": "3.812"}, ""),
        ({"val_bpb": "nan", "total_tokens_M": "many"}, ""),
        ({"val_bpb": "0.1"}, "claims val_bpb 0.1, measured 3.812340"),
        ({"val_bpb": "3.8"}, "claims val_bpb 3.8, measured 3.812340"),
        ({"total_tokens_M": "0.396"}, ""),
        ({"total_tokens_M": "1.2"}, "claims 1.2 M tokens, served 0.400 M"),
        ({"total_tokens_M": "0.1"}, "claims 0.1 M tokens, served 0.400 M"),
        ({"training_seconds": "10.2"}, ""),
        ({"training_seconds": "16.9"}, ""),
        ({"training_seconds": "5"}, "claims 5 s of training, measured 10.0 s"),
        ({"training_seconds": "300"}, "claims 300 s of training, measured 10.0 s"),
        ({"total_seconds": "21.4"}, ""),
        ({"total_seconds": "1e6"}, "claims 1e+06 s in all, measured 21.0 s"),
        ({"num_params_M": "1e9", "peak_vram_mb": "-1", "mfu_percent": "900"}, ""),
        ({"val_bpb": "1", "total_seconds": "0"}, "claims val_bpb 1, measured 3.812340; claims 0 s in all"),
    ],
)
def test_claims_are_held_against_what_was_measured(claimed: dict[str, str], flag: str) -> None:
    found = disagreements(Claims(claimed), MEASURED)
    assert found.startswith(flag)
    assert bool(found) is bool(flag)


def test_a_score_that_was_refused_is_claimed_in_vain() -> None:
    refused = replace(MEASURED, val_bpb=None)
    assert disagreements(Claims({"val_bpb": "0.5"}), refused) == "claims val_bpb 0.5, and has no score"


def test_nothing_served_nothing_to_divide_by() -> None:
    nothing = Measured(None, 0, 0, 0.0, 0.0, 1.0)
    assert disagreements(Claims({"total_tokens_M": "5"}), nothing) == "claims 5 M tokens, served 0.000 M"
