"""Attention over the tokens of one sample; samples never mix."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sidelight.networks.tokens import countable


class Attention(nn.Module):
    """Multi-head attention, softmax(Q Kᵀ/√d) V, from queries (B, T, D) over tokens (B, S, D) -> (B, T, D).

    Vaswani et al., Attention is all you need, 2017. Queries, keys and values have no bias: a bias of the keys cancels
    in the softmax and could never learn.

    Args:
        width: D.
        heads: a divisor of D; by default the largest of 4, 2 and 1 that is one.
    """

    def __init__(self, width: int, heads: int | None = None):
        super().__init__()
        self.heads = heads or next(h for h in (4, 2, 1) if width % h == 0)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """(B, T, D): each query's weighted mean over the tokens."""
        b, t, width = queries.shape
        split = (b, -1, self.heads, width // self.heads)
        key, value = self.key_value(tokens).chunk(2, dim=2)
        q, k, v = (x.reshape(split).transpose(1, 2) for x in (self.query(queries), key, value))
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, width)
        out: Tensor = self.out(attended)
        return out


class TransformerLayer(nn.Module):
    """One encoder layer, x + attention(norm(x)) and then x + feed-forward(norm(x)): (B, T, D) -> (B, T, D).

    Pre-norm (Xiong et al., 2020), which needs no warm-up of the learning rate.
    """

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.ReLU(),
            nn.Identity(),  # takes the place of an earlier dropout, so that layers keep their numbers in files
            nn.Linear(2 * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        x = x + self.attention(normed, normed)
        out: Tensor = x + self.feed_forward(x)
        return out


def positional_encoding(x: Tensor) -> Tensor:
    """Sines and cosines (T, D) that mark the order of tokens x (B, T, D) (Vaswani et al., 2017); any T, no weights."""
    steps, width = x.shape[1], x.shape[2]
    kind = countable(x)
    time = torch.arange(steps, dtype=kind, device=x.device).unsqueeze(1)
    half = torch.arange((width + 1) // 2, dtype=kind, device=x.device)
    angle = time * torch.exp(half * (-math.log(10000.0) * 2 / width))
    return torch.cat([angle.sin(), angle.cos()], dim=1)[:, :width].to(x.dtype)
