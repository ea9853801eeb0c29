"""What autoresearch's agent tried on an H100 (its branch exp/H100/mar8, 125 experiments), as edits of train.py.

The names on the left are its own words. On the right stand edits (old line or part of one, new text) that do the same
to seed_model/train.py; a plain `NAME = value` turns one of its tunables. The random seed (42 to 137) is left out, since
ours comes from prepare.py, and so is what has no counterpart: the rotary precompute, NorMuon's beta2 and its momentum
warm-up.
"""

from __future__ import annotations

import re

Edit = tuple[str, str]
_ADAM = "            adamw_update(p, p.grad, first, second, step, number(lr * lr_scale), beta1, beta2)"
_LIST = "        self.adam += [(model.head.weight, HEAD_LR * width_scale)]"


def _decay(which: str, amount: str) -> list[Edit]:
    """AdamW's decay for the parameters for which an expression over `p` and `model` is true."""
    kept = "        self.decayed = {id(p) for p, _ in self.adam if " + which + "}"
    line = f"            if id(p) in self.decayed:\n                p.mul_(1 - lr * lr_scale * {amount})"
    return [("        stacks = {}", f"{kept}\n        stacks = {{}}"), (_ADAM, f"{line}\n{_ADAM}")]


HEAD, EMBEDDING = "p is model.head.weight", "p is model.embedding.weight"
VALUES = "any(p is e.weight for e in model.value_embeddings.values())"
VALUE_LR = "        self.adam += [(e.weight, EMBEDDING_LR * width_scale) for e in model.value_embeddings.values()]"
X0_LR = "(model.x0_weights, SCALAR_LR)]"
INIT = "                matrix.weight.uniform_(-bound, bound)"
OUT = "                    matrix.weight.zero_()"
GATE = "            gate = 2 * torch.sigmoid(self.gate(x[..., : self.gate.in_features]))  # (B, T, H), 1 at first"
BLOCK = "            x = x + self.mlps[i](norm(x))"
FALL = "    fall = min(1.0, (1.0 - progress) / WARMDOWN) if WARMDOWN > 0 else 1.0"
STEP = "    optimizer.step(lr_schedule(loader.progress), WEIGHT_DECAY * (1.0 - loader.progress))"

TRIED: dict[str, str | list[Edit]] = {
    "halve batch 524K to 262K": "BATCH_TOKENS = 1024",
    "depth 9 aspect_ratio 57": "DEPTH = 4",
    "add 5% warmup": "WARMUP = 0.05",
    "warmdown 0.5 to 0.7": "WARMDOWN = 0.7",
    "SSSSL window pattern": "LONG_EVERY = 5",
    "short window 1/8 context": "SHORT_WINDOW_FRACTION = 0.125",
    "RoPE base frequency 10K to 200K": "ROPE_BASE = 200000.0",
    "embedding LR 0.6 to 0.8": "EMBEDDING_LR = 0.8",
    "unembedding LR 0.004 to 0.008": "HEAD_LR = 0.008",
    "x0_lambda init 0.1 to 0.05": "X0_WEIGHT = 0.05",
    "FINAL_LR_FRAC 0.0": "FINAL_LR_FRACTION = 0.0",
    "matrix LR 0.04 to 0.045": "MATRIX_LR = 0.045",
    "unembedding LR 0.004 to 0.006": "HEAD_LR = 0.006",
    "batch 131K (not divisible)": [("n_accumulate = max(1, round(step_tokens / (B * T)))", "assert step_tokens % (3 * B * T) == 0\nn_accumulate = step_tokens // (3 * B * T)")],
    "embedding LR 0.8 to 1.0": "EMBEDDING_LR = 1.0",
    "softcap 15 to 20": "SOFTCAP = 20.0",
    "warmdown 0.7 to 0.8": "WARMDOWN = 0.8",
    "depth 10 aspect 51 dim 512": [("DEPTH = 3 ", "DEPTH = 5 "), ("WIDTH = 64 ", "WIDTH = 48 ")],
    "weight decay 0.2 to 0.15": "WEIGHT_DECAY = 0.15",
    "VE gate channels 32 to 48": "GATE_CHANNELS = 48",
    "scalar LR 0.5 to 0.3": "SCALAR_LR = 0.2",
    "Adam beta1 0.8 to 0.85": "ADAM_BETA1 = 0.85",
    "remove cautious WD mask": "CAUTIOUS_DECAY = False",
    "FINAL_LR_FRAC 0.05 to 0.1": "FINAL_LR_FRACTION = 0.1",
    "gradient clipping max_norm=1.0": [(STEP, f"    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n{STEP}")],
    "Muon ns_steps 5 to 4": "MUON_STEPS = 4",
    "LR scale reference 768 to 640": [("width_scale = (C / 768) ** -0.5", "width_scale = (C / 640) ** -0.5")],
    "muon final momentum 0.95 to 0.96": "MUON_MOMENTUM = 0.96",
    "Adam beta2 0.95 to 0.90": "ADAM_BETA2 = 0.9",
    "VE gate scale 2 to 3": [(GATE, GATE.replace("2 *", "3 *", 1))],
    "resid lambda init 1.0 to 0.9": [("        self.residual_weights.fill_(1.0)", "        self.residual_weights.fill_(0.9)")],
    "matrix LR 0.04 to 0.035": "MATRIX_LR = 0.035",
    "VE only last 3 layers": "VALUE_EMBEDDING_EVERY = 3",
    "embedding LR 0.8 to 0.9": "EMBEDDING_LR = 0.9",
    "unembedding LR 0.006 to 0.005": "HEAD_LR = 0.005",
    "RoPE base 200K to 400K": "ROPE_BASE = 400000.0",
    "constant WD at 0.1": [(STEP, "    optimizer.step(lr_schedule(loader.progress), 0.1)")],
    "add WD 0.01 to lm_head": _decay(HEAD, "0.01"),
    "softcap 15 to 13": "SOFTCAP = 13.0",
    "depth 11 dim 640": [("DEPTH = 3 ", "DEPTH = 6 "), ("WIDTH = 64 ", "WIDTH = 96 ")],
    "add WD 0.01 to embeddings": _decay(EMBEDDING, "0.01"),
    "add 2% warmup": "WARMUP = 0.02",
    "halve value embedding LR": [(VALUE_LR, VALUE_LR.replace("EMBEDDING_LR *", "0.5 * EMBEDDING_LR *"))],
    "SSSL pattern": "LONG_EVERY = 3",
    "FINAL_LR_FRAC 0.05 to 0.02": "FINAL_LR_FRACTION = 0.02",
    "lm_head init std 0.001 to 0.01": "HEAD_STD = 0.01",
    "x0_lambda init 0.0": "X0_WEIGHT = 0.0",
    "VE LR 1.5x": [(VALUE_LR, VALUE_LR.replace("EMBEDDING_LR *", "1.5 * EMBEDDING_LR *"))],
    "embedding init std 1.0 to 2.0": "EMBEDDING_STD = 2.0",
    "sqrt WD schedule": [(STEP, STEP.replace("(1.0 - loader.progress)", "math.sqrt(1.0 - loader.progress)"))],
    "depth 10 same dim 640": "DEPTH = 5",
    "depth 8 dim 640": [("DEPTH = 3 ", "DEPTH = 2 "), ("WIDTH = 64 ", "WIDTH = 96 ")],
    "WD follows LR schedule": [(STEP, "    scale = lr_schedule(loader.progress)\n    optimizer.step(scale, WEIGHT_DECAY * scale)")],
    "parallel attn+MLP": [
        ("            x = x + self.attentions[i](norm(x), value_embedding, cos, sin, self.masks[windows[i]])", "            y = norm(x)\n            x = x + self.attentions[i](y, value_embedding, cos, sin, self.masks[windows[i]])"),
        (BLOCK, "            x = x + self.mlps[i](y)"),
    ],
    "warmdown 0.7 to 0.65": "WARMDOWN = 0.65",
    "MLP hidden 4x to 3.5x": "MLP_RATIO = 3.5",
    "RoPE base 200K to 150K": "ROPE_BASE = 150000.0",
    "FINAL_LR_FRAC 0.05 to 0.03": "FINAL_LR_FRACTION = 0.03",
    "SSSSSL pattern": "LONG_EVERY = 6",
    "lm_head WD 0.01 to 0.05": _decay(HEAD, "0.05"),
    "reduce transformer init scale by 0.8x": "MATRIX_SCALE = 0.8",
    "init scale 0.6x": "MATRIX_SCALE = 0.6",
    "init scale 0.7x": "MATRIX_SCALE = 0.7",
    "init scale 0.65x": "MATRIX_SCALE = 0.65",
    "embedding init std 1.0 to 0.7": "EMBEDDING_STD = 0.7",
    "lm_head init std 0.001 to 0.002": "HEAD_STD = 0.002",
    "small random init for c_proj": [(OUT, "                    matrix.weight.normal_(0, 0.002)")],
    "scalar LR 0.5 to 0.7": "SCALAR_LR = 0.7",
    "unembedding LR 0.005 to 0.004": "HEAD_LR = 0.0045",
    "weight decay 0.2 to 0.25": "WEIGHT_DECAY = 0.25",
    "x0_lambda init 0.05 to 0.04": "X0_WEIGHT = 0.04",
    "VE init scale 0.5x": [("            embedding.weight.uniform_(-bound, bound)", "            embedding.weight.uniform_(-bound / 2, bound / 2)")],
    "cosine warmdown schedule": [(FALL, f"{FALL}\n    fall = 0.5 - 0.5 * math.cos(math.pi * fall)")],
    "MLP hidden 4x to 4.5x": "MLP_RATIO = 4.5",
    "decreasing resid_lambda init": [("        self.residual_weights.fill_(1.0)", "        self.residual_weights.copy_(torch.linspace(1.0, 0.9, n_layer))")],
    "softcap 15 to 14": "SOFTCAP = 14.0",
    "VE gate channels 32 to 16": "GATE_CHANNELS = 16",
    "Adam beta2 0.95 to 0.99": "ADAM_BETA2 = 0.99",
    "x0_lambda LR 2x": [(X0_LR, "(model.x0_weights, 2 * SCALAR_LR)]")],
    "multi-query attention n_kv_head=1": [
        ("        self.key = nn.Linear(C, C, bias=False)", "        self.key = nn.Linear(C, head_dim, bias=False)"),
        ("        k = self.key(x).view(B, T, n_head, head_dim)", "        k = self.key(x).view(B, T, 1, head_dim).expand(B, T, n_head, head_dim)"),
    ],
    "embedding init std 1.0 to 0.5": "EMBEDDING_STD = 0.5",
    "weight tying": [("        logits = self.head(norm(x)).float()  # (B, T, V)", "        logits = F.linear(norm(x), self.embedding.weight.to(x.dtype)).float()  # (B, T, V)")],
    "VE every 3rd layer": "VALUE_EMBEDDING_EVERY = 4",
    "WD constant until warmdown then decay": [(STEP, "    optimizer.step(lr_schedule(loader.progress), WEIGHT_DECAY * min(1.0, (1.0 - loader.progress) / WARMDOWN))")],
    "smaller QK init 0.5x": [(INIT, f"{INIT}\n            attention.query.weight.mul_(0.5)\n            attention.key.weight.mul_(0.5)")],
    "depth-dependent init scale": [
        ("        for attention, mlp in zip(self.attentions, self.mlps, strict=True):", "        for layer, (attention, mlp) in enumerate(zip(self.attentions, self.mlps, strict=True)):"),
        (INIT, "                matrix.weight.uniform_(-bound, bound).div_(math.sqrt(layer + 1))"),
    ],
    "init scale 0.7 to 0.72": "MATRIX_SCALE = 0.72",
    "init scale 0.7 to 0.68": "MATRIX_SCALE = 0.68",
    "init scale 0.68 to 0.66": "MATRIX_SCALE = 0.66",
    "resid_lambda LR 0.01x to 0.04x": [("(model.residual_weights, SCALAR_LR * 0.01)", "(model.residual_weights, SCALAR_LR * 0.04)")],
    "Adam beta1 0.8 to 0.9": "ADAM_BETA1 = 0.9",
    "short window 1/6 context": "SHORT_WINDOW_FRACTION = 0.1667",
    "short window 1/10 context": "SHORT_WINDOW_FRACTION = 0.1",
    "lm_head init std 0.001 to 0.0005": "HEAD_STD = 0.0005",
    "tiny embedding WD 0.001": _decay(EMBEDDING, "0.001"),
    "embedding WD 0.001 to 0.002": _decay(EMBEDDING, "0.002"),
    "tiny VE WD 0.001": _decay(VALUES, "0.001"),
    "VE WD 0.001 to 0.002": _decay(VALUES, "0.002"),
    "VE WD 0.002 to 0.003": _decay(VALUES, "0.003"),
    "VE WD 0.003 to 0.005": _decay(VALUES, "0.005"),
    "lm_head WD 0.01 to 0.02": _decay(HEAD, "0.02"),
    "lm_head WD 0.01 to 0.005": _decay(HEAD, "0.005"),
    "VE WD 0.003 to 0.004": _decay(VALUES, "0.004"),
    "Muon WD 0.2 to 0.22": "WEIGHT_DECAY = 0.22",
    "warmdown 0.7 to 0.75": "WARMDOWN = 0.75",
    "x0_lambda init 0.05 to 0.06": "X0_WEIGHT = 0.06",
    "RoPE base 200K to 300K": "ROPE_BASE = 300000.0",
}  # fmt: skip
"""By its words; repetitions of the same setting later in its log are named once."""


def reply(source: str, name: str) -> str:
    """Return what a model would answer to make that change: blocks of whole lines of `source`."""
    edits = TRIED[name]
    if isinstance(edits, str):
        tunable = edits.partition(" = ")[0]
        found = re.search(rf"^{tunable} = (\S+)(.*)$", source, re.MULTILINE)
        if found is None:
            raise LookupError(f"{name}: no {tunable} in train.py")
        edits = [(found[0], f"{edits}{found[2]}")]
    blocks = []
    for old, new in edits:
        line = next(line for line in source.split("\n") if old.split("\n")[0] in line)
        blocks.append(f"<<<<<<< SEARCH\n{line}\n=======\n{line.replace(old, new)}\n>>>>>>> REPLACE")
    return "\n\n".join([f"HYPOTHESIS: {name}", *blocks])
