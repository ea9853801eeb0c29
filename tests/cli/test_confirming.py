"""What `confirm` prints fits a terminal, and every number has its error and its count."""

from __future__ import annotations

import io

from rich.console import Console

from autoresearch_ray.cli.confirming import render
from autoresearch_ray.evolution.confirmation import Confirmation, Confirmed
from autoresearch_ray.evolution.noise import Posterior


def test_the_table_fits_eighty_columns() -> None:
    seed = Confirmed(0, "a" * 12, "the seed program", Posterior(3.8792, 0.0127, 5), (3.88, 3.90), (3.95, 3.97), 0)
    best = Confirmed(
        7, "b" * 12, "DEPTH 2 -> 1, " * 20, Posterior(3.4965, 0.0282, 1), (3.50, 3.52), (), 1, gain=0.38, p_better=0.999
    )
    console = Console(file=io.StringIO(), width=80)
    console.print(render(Confirmation(0.03, 12, (seed, best)), "val_bpb"))
    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, drawn.splitlines())) <= 80
    for words in (
        "3.4965 ± 0.0282 (1)",
        "3.5100 ± 0.0212 (2)",
        "3.9600 ± 0.0212 (2)",
        "+0.3800 ± 0.0300",
        "0.999",
        "bbbbbbb",
    ):
        assert words in drawn
    assert "3.4638 to 3.5562" in drawn  # Student's t for 12 degrees of freedom
