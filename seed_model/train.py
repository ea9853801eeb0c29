"""
A GPT that trains for a fixed time on one device. Run by itself: `python seed_model/train.py` (prepare the data first).

This is the file that evolves; prepare.py is fixed. The contract between the two:
- `make_dataloader(B, T)` yields (inputs, targets) until the time budget is spent; the clock starts with the first one,
  so whatever is slow (compiling) comes before it;
- the model maps tokens (B, T) to logits (B, T, VOCAB_SIZE) and looks only at the past: it is scored by these logits;
- `evaluate_bpb(model)` is called once, at the end.

Letters in shapes: B rows, T tokens, C channels of the residual stream, H heads, D channels of a head, V vocabulary.
"""

import gc
import math
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from prepare import DEVICE, MAX_SEQ_LEN, SEED, TIME_BUDGET, VOCAB_SIZE, evaluate_bpb, make_dataloader

start_time = time.time()

# ---------------------------------------------------------------------------------------------------------------------
# Tunables. Any sensible value trains: what must divide is rounded below.

# Size, for seconds on one CPU thread. A GPU gets larger multiples of the same numbers (see "Sizes" below).
DEPTH = 3  # layers
WIDTH = 64  # channels of the residual stream, rounded to a multiple of HEAD_DIM
HEAD_DIM = 32  # channels an attention head
MLP_RATIO = 4.0  # hidden channels of the MLP for each channel of the residual stream
BATCH_TOKENS = 2048  # tokens an optimizer step

# Attention
SHORT_WINDOW_FRACTION = 0.5  # of the sequence: how far back the layers with a short window look
LONG_EVERY = 4  # every so many layers, and the last, look back over the whole sequence
ROPE_BASE = 10000.0  # the longest wavelength of the rotary embeddings, in tokens over 2 pi
VALUE_EMBEDDING_EVERY = 2  # every so many layers, counted from the last, adds an embedding of the token to its values
GATE_CHANNELS = 32  # channels that decide how much of the value embedding is added
SOFTCAP = 15.0  # logits are squashed into (-SOFTCAP, SOFTCAP); 0 leaves them as they are

# Initialisation
EMBEDDING_STD = 1.0  # standard deviation of the token embeddings
MATRIX_SCALE = 1.0  # of the matrices, as a multiple of 1 / sqrt(inputs)
HEAD_STD = 0.001  # standard deviation of the output matrix
X0_WEIGHT = 0.1  # how much of the token embedding is added again before each layer

# Optimizer: Muon for the matrices inside the layers, AdamW for everything else
MATRIX_LR = 0.04
EMBEDDING_LR = 0.6  # token and value embeddings; this and the next scale with 1 / sqrt(width)
HEAD_LR = 0.004
SCALAR_LR = 0.3  # for the weights of the embedding added again; those of the residual stream take a hundredth
MUON_MOMENTUM = 0.95
MUON_STEPS = 5  # Newton-Schulz iterations
ADAM_BETA1 = 0.8
ADAM_BETA2 = 0.95
WEIGHT_DECAY = 0.2  # of the matrices; falls to 0 with the progress
CAUTIOUS_DECAY = True  # decay only where the update shrinks the weight too

# Schedule, in shares of the time budget
WARMUP = 0.0  # the learning rate rises linearly
WARMDOWN = 0.5  # the learning rate falls linearly ...
FINAL_LR_FRACTION = 0.05  # ... to this share of its full value

# ---------------------------------------------------------------------------------------------------------------------
# Sizes

on_gpu = DEVICE == "cuda"
stream_dtype = torch.bfloat16 if on_gpu else torch.float32
T = MAX_SEQ_LEN
n_layer = max(1, DEPTH + (5 if on_gpu else 0))
head_dim = max(8, HEAD_DIM // 8 * 8) * (4 if on_gpu else 1)
n_head = max(1, round(WIDTH * (8 if on_gpu else 1) / head_dim))
C = n_head * head_dim
multiple = 64 if on_gpu else 8
n_hidden = max(1, round(MLP_RATIO * C / multiple)) * multiple
step_tokens = BATCH_TOKENS * (256 if on_gpu else 1)
B = max(1, min(step_tokens, 2**17 if on_gpu else 2**14) // T)  # rows that are in memory at once
n_accumulate = max(1, round(step_tokens / (B * T)))
windows = [
    T if (i + 1) % max(1, LONG_EVERY) == 0 or i == n_layer - 1 else max(1, min(T, round(SHORT_WINDOW_FRACTION * T)))
    for i in range(n_layer)
]  # tokens that each layer looks back over
has_value_embedding = [(n_layer - 1 - i) % max(1, VALUE_EMBEDDING_EVERY) == 0 for i in range(n_layer)]

# ---------------------------------------------------------------------------------------------------------------------
# Model


def norm(x):
    return F.rms_norm(x, (x.size(-1),)).to(x.dtype)


def rotate(x, cos, sin):
    """Rotary embedding of x (B, T, H, D): pairs of channels turn by an angle that grows with the position."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos + b * sin, b * cos - a * sin], dim=-1)


if on_gpu:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention


def causal_mask(window, device):
    """A mask that lets each token see itself and the `window` - 1 before it."""
    if on_gpu:
        return create_block_mask(lambda b, h, q, k: (q >= k) & (q - k < window), None, None, T, T, device=device)
    distance = torch.arange(T)[:, None] - torch.arange(T)[None, :]
    return (distance >= 0) & (distance < window)


class Attention(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.window = windows[layer]
        self.query = nn.Linear(C, C, bias=False)
        self.key = nn.Linear(C, C, bias=False)
        self.value = nn.Linear(C, C, bias=False)
        self.output = nn.Linear(C, C, bias=False)
        self.gate = nn.Linear(min(GATE_CHANNELS, C), n_head, bias=False) if has_value_embedding[layer] else None

    def forward(self, x, value_embedding, cos, sin, mask):
        B, T, C = x.shape
        q = self.query(x).view(B, T, n_head, head_dim)
        k = self.key(x).view(B, T, n_head, head_dim)
        v = self.value(x).view(B, T, n_head, head_dim)
        if value_embedding is not None:
            gate = 2 * torch.sigmoid(self.gate(x[..., : self.gate.in_features]))  # (B, T, H), 1 at first
            v = v + gate.unsqueeze(-1) * value_embedding.view(B, T, n_head, head_dim).to(v.dtype)
        q, k = norm(rotate(q, cos, sin)), norm(rotate(k, cos, sin))
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, H, T, D)
        if on_gpu:
            y = flex_attention(q, k, v, block_mask=mask)
        elif self.window >= T:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:T, :T])
        return self.output(y.transpose(1, 2).reshape(B, T, C))


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.expand = nn.Linear(C, n_hidden, bias=False)
        self.output = nn.Linear(n_hidden, C, bias=False)

    def forward(self, x):
        return self.output(F.relu(self.expand(x)).square())


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB_SIZE, C)
        self.value_embeddings = nn.ModuleDict(
            {str(i): nn.Embedding(VOCAB_SIZE, C) for i in range(n_layer) if has_value_embedding[i]}
        )
        self.attentions = nn.ModuleList(Attention(i) for i in range(n_layer))
        self.mlps = nn.ModuleList(MLP() for _ in range(n_layer))
        self.head = nn.Linear(C, VOCAB_SIZE, bias=False)
        self.residual_weights = nn.Parameter(torch.empty(n_layer))  # of the stream before each layer
        self.x0_weights = nn.Parameter(torch.empty(n_layer))  # of the embedding that is added again there
        frequencies = ROPE_BASE ** (-torch.arange(0, head_dim, 2) / head_dim)
        angles = torch.arange(T)[:, None, None] * frequencies  # (T, 1, D / 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self.masks = {window: causal_mask(window, DEVICE) for window in set(windows)}

    @torch.no_grad()
    def initialize(self):
        """Random matrices on the way into a layer, zeros on the way out: at first every layer does nothing."""
        bound = MATRIX_SCALE * math.sqrt(3 / C)  # a uniform distribution with standard deviation 1 / sqrt(C)
        self.embedding.weight.normal_(0, EMBEDDING_STD)
        self.head.weight.normal_(0, HEAD_STD)
        for embedding in self.value_embeddings.values():
            embedding.weight.uniform_(-bound, bound)
        for attention, mlp in zip(self.attentions, self.mlps, strict=True):
            for matrix in (attention.query, attention.key, attention.value, mlp.expand):
                matrix.weight.uniform_(-bound, bound)
            for matrix in (attention.output, mlp.output, attention.gate):
                if matrix is not None:
                    matrix.weight.zero_()
        self.residual_weights.fill_(1.0)
        self.x0_weights.fill_(X0_WEIGHT)

    def forward(self, tokens):
        T = tokens.size(1)
        x = x0 = norm(self.embedding(tokens).to(stream_dtype))  # (B, T, C)
        cos, sin = self.cos[:T].to(stream_dtype), self.sin[:T].to(stream_dtype)
        for i in range(n_layer):
            x = self.residual_weights[i] * x + self.x0_weights[i] * x0
            value_embedding = self.value_embeddings[str(i)](tokens) if has_value_embedding[i] else None
            x = x + self.attentions[i](norm(x), value_embedding, cos, sin, self.masks[windows[i]])
            x = x + self.mlps[i](norm(x))
        logits = self.head(norm(x)).float()  # (B, T, V)
        return SOFTCAP * torch.tanh(logits / SOFTCAP) if SOFTCAP > 0 else logits


# ---------------------------------------------------------------------------------------------------------------------
# Optimizer


def maybe_compile(function):
    """Fuse the function's kernels on a GPU; on a CPU compiling would take longer than the training."""
    return torch.compile(function, dynamic=False, fullgraph=True) if on_gpu else function


@maybe_compile
def adamw_update(p, grad, first, second, step, lr, beta1, beta2):
    first.lerp_(grad, 1 - beta1)
    second.lerp_(grad.square(), 1 - beta2)
    denominator = (second / (1 - beta2**step)).sqrt() + 1e-10
    p.sub_(lr * (first / (1 - beta1**step)) / denominator)


@maybe_compile
def muon_update(p, grad, buffer, lr, momentum, decay):
    """One step for a stack of equal matrices (N, rows, columns): momentum, orthogonalized, with decay."""
    buffer.lerp_(grad, 1 - momentum)
    g = grad.lerp(buffer, momentum)  # Nesterov
    x = g.bfloat16() if on_gpu else g
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(MUON_STEPS):  # pushes all singular values towards 1
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    x = (x.mT if tall else x).to(p.dtype) * max(1.0, p.size(-2) / p.size(-1)) ** 0.5
    shrinking = (x * p >= 0).to(p.dtype) if CAUTIOUS_DECAY else 1.0
    p.sub_(lr * x + lr * decay * shrinking * p)


class MuonAdamW:
    """Muon for the matrices of the layers, stacked by shape; AdamW for embeddings, head and scalars."""

    def __init__(self, model):
        width_scale = (C / 768) ** -0.5
        self.adam = [(model.embedding.weight, EMBEDDING_LR * width_scale)]
        self.adam += [(e.weight, EMBEDDING_LR * width_scale) for e in model.value_embeddings.values()]
        self.adam += [(model.head.weight, HEAD_LR * width_scale)]
        self.adam += [(model.residual_weights, SCALAR_LR * 0.01), (model.x0_weights, SCALAR_LR)]
        stacks = {}
        for p in (*model.attentions.parameters(), *model.mlps.parameters()):
            stacks.setdefault(p.shape, []).append(p)
        self.stacks = list(stacks.values())
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p, _ in self.adam]
        self.buffers = [torch.zeros_like(torch.stack(stack)) for stack in self.stacks]
        self.steps = 0

    @torch.no_grad()
    def step(self, lr_scale, decay):
        self.steps += 1
        number = torch.tensor if on_gpu else float  # a tensor, so that a new value is not compiled again
        step, beta1, beta2 = number(float(self.steps)), number(ADAM_BETA1), number(ADAM_BETA2)
        for (p, lr), (first, second) in zip(self.adam, self.moments, strict=True):
            adamw_update(p, p.grad, first, second, step, number(lr * lr_scale), beta1, beta2)
        for stack, buffer in zip(self.stacks, self.buffers, strict=True):
            weights, grads = torch.stack(stack), torch.stack([p.grad for p in stack])
            muon_update(weights, grads, buffer, number(MATRIX_LR * lr_scale), number(MUON_MOMENTUM), number(decay))
            torch._foreach_copy_(stack, list(weights.unbind(0)))
        for p, _ in self.adam:
            p.grad = None
        for stack in self.stacks:
            for p in stack:
                p.grad = None


def lr_schedule(progress):
    """The share of the full learning rate at `progress` in [0, 1]."""
    rise = min(1.0, progress / WARMUP) if WARMUP > 0 else 1.0
    fall = min(1.0, (1.0 - progress) / WARMDOWN) if WARMDOWN > 0 else 1.0
    return rise * (FINAL_LR_FRACTION + (1.0 - FINAL_LR_FRACTION) * fall)


# ---------------------------------------------------------------------------------------------------------------------
# Set-up

torch.manual_seed(SEED)
if on_gpu:
    torch.set_float32_matmul_precision("high")
model = GPT().to(DEVICE)
n_parameters = sum(p.numel() for p in model.parameters())
n_multiplied = sum(p.numel() for m in (model.attentions, model.mlps, model.head) for p in m.parameters())
flops_per_token = 6 * n_multiplied + 12 * C * sum(min(w, T / 2) for w in windows)


def logits_of(x):
    with torch.autocast(DEVICE, torch.bfloat16, enabled=on_gpu):
        return model(x)


def loss_of(x, y):
    """Mean cross-entropy in nats a token; x and y are (B, T)."""
    return F.cross_entropy(logits_of(x).view(-1, VOCAB_SIZE), y.view(-1))


class Scored(nn.Module):
    """The model as it is scored: on a GPU in passes of one compiled shape, whatever the number of rows."""

    def __init__(self, rows=16):
        super().__init__()
        self.model, self.rows = model, rows
        self.logits_of = torch.compile(logits_of, dynamic=False) if on_gpu else logits_of

    def forward(self, tokens):
        if not on_gpu:
            return self.logits_of(tokens)
        passes = [F.pad(some, (0, 0, 0, self.rows - len(some))) for some in tokens.split(self.rows)]
        return torch.cat([self.logits_of(some).to(stream_dtype) for some in passes])[: len(tokens)]


scored = Scored()
if on_gpu:  # compile everything on made-up tokens; the weights are set afterwards
    model.initialize()
    loss_of = torch.compile(loss_of, dynamic=False)
    optimizer = MuonAdamW(model)
    for _ in range(2):
        x, y = torch.randint(VOCAB_SIZE, (2, B, T), device=DEVICE)
        loss_of(x, y).backward()
        optimizer.step(0.0, 0.0)
    scored.eval()
    with torch.no_grad():
        scored(x)
    scored.train()
    torch.cuda.synchronize()
    torch.manual_seed(SEED)
model.initialize()
optimizer = MuonAdamW(model)
gc.collect()
gc.freeze()
gc.disable()  # nothing here needs it, and it would interrupt the loop

# ---------------------------------------------------------------------------------------------------------------------
# Training

print(f"{n_layer} layers of {C} channels, {n_parameters:,} parameters, {TIME_BUDGET:g} s on {DEVICE}")
print(f"{n_accumulate} x {B} x {T} tokens a step; set up in {time.time() - start_time:.2f} s", flush=True)
loader = make_dataloader(B, T)
step, passes, smooth_loss, next_shown = 0, 0, 0.0, 0.0
first_batch_time = time.time()

for x, y in loader:
    loss = loss_of(x, y)
    (loss / n_accumulate).backward()
    passes += 1
    if passes % n_accumulate:
        continue
    optimizer.step(lr_schedule(loader.progress), WEIGHT_DECAY * (1.0 - loader.progress))
    step += 1
    train_loss = loss.item()
    if not math.isfinite(train_loss):
        raise RuntimeError(f"the training loss is {train_loss} at step {step}")
    loader.report(train_loss)
    smooth_loss += (train_loss - smooth_loss) * max(0.05, 1 / step)
    if loader.progress >= next_shown:
        next_shown = loader.progress + 0.1
        speed = passes * B * T / (time.time() - first_batch_time)
        print(f"{loader.progress:4.0%} step {step:5d} loss {smooth_loss:.3f} {speed:,.0f} tokens/s", flush=True)

# ---------------------------------------------------------------------------------------------------------------------
# Score and summary

if on_gpu:
    torch.cuda.synchronize()
training_seconds = time.time() - first_batch_time
tokens = passes * B * T
val_bpb = evaluate_bpb(scored)

PEAK_FLOPS = 989.5e12  # an H100's dense bf16; on a CPU the share is not worth a figure
mfu = 100 * flops_per_token * tokens / training_seconds / PEAK_FLOPS if on_gpu else 0.0
peak_vram = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else 0.0
print("---")
print(f"val_bpb:          {val_bpb:.6f}")
print(f"training_seconds: {training_seconds:.1f}")
print(f"total_seconds:    {time.time() - start_time:.1f}")
print(f"peak_vram_mb:     {peak_vram:.1f}")
print(f"mfu_percent:      {mfu:.2f}")
print(f"total_tokens_M:   {tokens / 1e6:.3f}")
print(f"num_steps:        {step}")
print(f"num_params_M:     {n_parameters / 1e6:.3f}")
print(f"depth:            {n_layer}")
