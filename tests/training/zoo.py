"""Honest models of many builds, all causal, small enough to be scored by the hundred."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """Causal attention and an MLP, of pre-norm residual kind."""

    def __init__(self, C: int, heads: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.qkv, self.project = nn.Linear(C, 3 * C), nn.Linear(C, C)
        self.mlp: nn.Module = nn.Sequential(nn.Linear(C, 4 * C), nn.GELU(), nn.Linear(4 * C, C))

    def mix(self, x: torch.Tensor) -> torch.Tensor:
        B, T, C = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.project(y.transpose(1, 2).reshape(B, T, C))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + F.dropout(self.mix(self.norm1(x)), self.dropout, training=True)
        return x + F.dropout(self.mlp(self.norm2(x)), self.dropout, training=True)


class Mixture(nn.Module):
    """A token-wise mixture of experts: each token goes to its best expert, whatever others do."""

    def __init__(self, C: int, experts: int = 4) -> None:
        super().__init__()
        self.router = nn.Linear(C, experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(C, 2 * C), nn.ReLU(), nn.Linear(2 * C, C)) for _ in range(experts)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        weights, chosen = self.router(flat).softmax(-1).max(-1)
        out = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            mine = (chosen == number).nonzero()[:, 0]
            out[mine] = (expert(flat[mine]) * weights[mine, None]).to(out.dtype)
        return out.view(x.shape)


class Recurrent(nn.Module):
    """A gated recurrence over the tokens."""

    def __init__(self, C: int) -> None:
        super().__init__()
        self.cell = nn.GRU(C, C, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.cell(x)[0]


class Convolution(nn.Module):
    """A short causal convolution."""

    def __init__(self, C: int, width: int = 4) -> None:
        super().__init__()
        self.width, self.kernel = width, nn.Conv1d(C, C, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        padded = F.pad(x.transpose(1, 2), (self.width - 1, 0))
        return x + F.gelu(self.kernel(padded)).transpose(1, 2)


class LongConvolution(nn.Module):
    """A causal convolution as long as the row, by Fourier transforms: later tokens reach earlier ones by rounding."""

    def __init__(self, C: int, T: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(T, C) * 0.1 * torch.exp(-torch.arange(T)[:, None] / 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        T = x.shape[1]
        kernel = torch.fft.rfft(self.kernel[:T].float(), n=2 * T, dim=0)
        y = torch.fft.irfft(torch.fft.rfft(x.float(), n=2 * T, dim=1) * kernel, n=2 * T, dim=1)[:, :T]
        return x + y.to(x.dtype)


class Language(nn.Module):
    """Embeds tokens, runs blocks over them and gives logits."""

    def __init__(
        self, V: int, T: int, C: int, blocks: list[nn.Module], scale: float = 0.5, precision: str = "float32"
    ) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(V, C), nn.Embedding(T, C)
        self.blocks, self.norm, self.head = nn.ModuleList(blocks), nn.LayerNorm(C), nn.Linear(C, V)
        self.precision = precision
        nn.init.normal_(self.head.weight, std=scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kind = getattr(torch, self.precision)
        cast = torch.autocast(x.device.type, dtype=kind) if kind != torch.float32 else contextlib.nullcontext()
        with cast:
            h = self.tokens(x) + self.positions(torch.arange(x.shape[1], device=x.device))
            for block in self.blocks:
                h = block(h)
            return self.head(self.norm(h))


def _attention(C: int, T: int) -> list[nn.Module]:
    return [Block(C), Block(C)]


def _mixture(C: int, T: int) -> list[nn.Module]:
    blocks = [Block(C), Block(C)]
    for block in blocks:
        block.mlp = Mixture(C)
    return list(blocks)


BUILDS: dict[str, Callable[[int, int], list[nn.Module]]] = {
    "tokens alone": lambda C, T: [],
    "attention": _attention,
    "recurrent": lambda C, T: [Recurrent(C)],
    "convolutional": lambda C, T: [Convolution(C), Convolution(C)],
    "long convolution by FFT": lambda C, T: [LongConvolution(C, T), Block(C)],
    "token-wise mixture": _mixture,
    "dropout left on": lambda C, T: [Block(C, dropout=0.2), Block(C, dropout=0.2)],
    "recurrent and attention": lambda C, T: [Recurrent(C), Block(C)],
}


def build(name: str, V: int, T: int, seed: int, C: int = 32, precision: str = "float32") -> Language:
    """Return a model with random weights."""
    torch.manual_seed(seed)
    scale = float(torch.rand(1)) * 1.5 / math.sqrt(C)
    return Language(V, T, C, BUILDS[name](C, T), scale, precision)


def train(model: nn.Module, rows: torch.Tensor, steps: int, seed: int, B: int = 16) -> None:
    """Train on rows (n, T + 1) of tokens."""
    generator = torch.Generator(rows.device).manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        batch = rows[torch.randint(len(rows), (B,), generator=generator, device=rows.device)]
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1).float(), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
