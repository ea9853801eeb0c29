"""The landscapes that plans and benchmarks are simulated on, calibrated to autoresearch's own 125 experiments.

Owns constants only. `benchmarks/search.py` shows what a sequential greedy search makes of them.
"""

from __future__ import annotations

import math
from dataclasses import replace

from autoresearch_ray.cluster.landscape import Interaction, Landscape, Literal, Part

START, OPTIMUM = 0.9979, 0.9606
"""Bits per byte of autoresearch's baseline, and of the best there is."""

LITERALS = (
    Literal("TOTAL_BATCH_SIZE", "2**19", 2**17, 0.00460),
    Literal("EMBEDDING_LR", "0.6", 0.95, 0.00276, ceiling=8.0),
    Literal("DEPTH", "8", 10, 0.00165),
    Literal("WINDOW_FRACTION", "0.5", 0.11, 0.00157, odds=True),
    Literal("ASPECT_RATIO", "64", 52, 0.00147),
    Literal("WARMDOWN_RATIO", "0.5", 0.77, 0.00138, odds=True),
    Literal("ROPE_BASE", "10000.0", 250_000, 0.00128),
    Literal("UNEMBEDDING_LR", "0.004", 0.0055, 0.00119, ceiling=0.1),
    Literal("VALUE_DECAY", "0.0", 0.0032, 0.00109, floor=0.0002),
    Literal("X0_LAMBDA", "0.1", 0.048, 0.00100),
    Literal("INIT_SCALE", "1.0", 0.66, 0.00090),
    Literal("MATRIX_LR", "0.04", 0.033, 0.00081, ceiling=0.4),
    Literal("WEIGHT_DECAY", "0.2", 0.14, 0.00071),
    Literal("ADAM_BETA1", "0.8", 0.86, 0.00062, odds=True),
    Literal("FINAL_LR_FRAC", "0.0", 0.05, 0.00052, odds=True, floor=0.01),
)
"""The constants that autoresearch's train.py began with, and optima in the direction in which its night moved them."""

PARTS = (
    Part("batching", {"doubled": 0.0, "halved": -0.00690, "ragged": 0.00093, "sorted": 0.00057}),
    Part("window", {"sssl": 0.0, "sssssl": -0.00403, "full": 0.00101, "short": 0.00064}),
    Part("embedding", {"plain": 0.0, "value": -0.00236, "tied_norm": 0.00073, "factored": 0.00059}),
    Part("norm", {"rms": 0.0, "layer": 0.00055, "post": 0.00042, "none": 0.00071}),
    Part("head", {"untied": 0.0, "softcap": 0.00020, "cosine": 0.00035, "tied": math.inf}),
    Part("schedule", {"linear": 0.0, "cosine": 0.00075, "sqrt": 0.00043, "warmup": 0.00031}),
    Part("mlp", {"relu2": 0.0, "gelu": 0.00019, "swiglu": 0.00032, "parallel": 0.00041}),
)
"""What a language model exchanges. Three edits carry most of the gain that structure holds; one cannot train at all."""

INTERACTIONS = (
    Interaction("TOTAL_BATCH_SIZE", "EMBEDDING_LR", -0.6),
    Interaction("DEPTH", "ASPECT_RATIO", 0.6),
    Interaction("MATRIX_LR", "WEIGHT_DECAY", 0.6),
    Interaction("UNEMBEDDING_LR", "VALUE_DECAY", -0.6),
    Interaction("X0_LAMBDA", "INIT_SCALE", 0.6),
)

CALIBRATED = Landscape(OPTIMUM, LITERALS, PARTS, INTERACTIONS, sigma=0.0005, taste=0.001)
"""Starts at `START`. A sequential greedy search that keeps whatever scored lower, half of its proposals plain steps on
literals and half exchanged parts, is truly at about 0.974, 0.970 and 0.968 after 50, 125 and 300 experiments."""


def separable() -> Landscape:
    """Return a landscape whose gains lie in parts that do not touch each other, as crossover would have it.

    Twelve places, at each one good alternative among five bad ones, all worth the same and none depending on another;
    no literals. Two lines that found different ones unite them in one merge.
    """
    effects = {"a": 0.0, "good": -0.003, "b": 0.001, "c": 0.001, "d": 0.001, "e": 0.001, "f": 0.001}
    parts = tuple(Part(f"place{number}", effects) for number in range(12))
    return replace(CALIBRATED, literals=(), parts=parts, interactions=(), taste=math.inf)
