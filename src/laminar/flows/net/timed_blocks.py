"""What a UNet is made of (Dhariwal, Nichol 2021, https://arxiv.org/abs/2105.05233): blocks that are told the time."""

from math import log

import torch
from torch import Tensor, nn

from laminar.flows.net.net import near_zero


def embed(t: Tensor, size: int) -> Tensor:
    """cos(w t) and sin(w t) of t ``(B,)`` for frequencies w from 1 down to 1e-4: ``(B, size)``."""
    half = size // 2
    w = torch.exp(-log(10_000.0) / half * torch.arange(half, device=t.device, dtype=t.dtype))
    angle = t.unsqueeze(1) * w
    return torch.cat([angle.cos(), angle.sin()], 1)


def group_norm(channels: int) -> nn.GroupNorm:
    """Over at most 32 groups of at least 4 channels: a group of one would forget what the time adds to it."""
    return nn.GroupNorm(max(n for n in range(1, 33) if channels % n == 0 and (4 * n <= channels or n == 1)), channels)


class Stage(nn.Module):
    """A block or a halving, then attention and a doubling, where there are."""

    def __init__(self, layer: nn.Module, attention: nn.Module | None = None):
        super().__init__()
        self.layer, self.attention, self.resize = layer, attention, None

    def forward(self, h: Tensor, told: Tensor) -> Tensor:
        h = self.layer(h, told) if isinstance(self.layer, TimedBlock) else self.layer(h)
        h = h if self.attention is None else self.attention(h)
        return h if self.resize is None else self.resize(h)


class TimedBlock(nn.Module):
    """skip(h) + conv(silu(norm(conv(silu(norm(h))) + W told))); it starts as the skip, nearly."""

    def __init__(self, before: int, after: int, told: int, dropout: float):
        super().__init__()
        self.enter = nn.Sequential(group_norm(before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1))
        self.told = nn.Linear(told, after)
        last = near_zero(nn.Conv2d(after, after, 3, padding=1))
        self.leave = nn.Sequential(group_norm(after), nn.SiLU(), nn.Dropout(dropout), last)
        self.skip = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, h: Tensor, told: Tensor) -> Tensor:
        return self.skip(h) + self.leave(self.enter(h) + self.told(told)[:, :, None, None])


class SpatialAttention(nn.Module):
    """h + attention(norm(h)) over the positions of an image.

    In plain operations: fused ones have no second derivative, and a likelihood's gradient differentiates what a trace did.
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads, self.norm = heads, group_norm(channels)
        self.qkv, self.out = nn.Linear(channels, 3 * channels), near_zero(nn.Linear(channels, channels))

    def forward(self, h: Tensor) -> Tensor:
        tokens = self.norm(h).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(2, 3) * q.shape[3] ** -0.5).softmax(3)
        seen = (weights @ v).transpose(1, 2).flatten(2)
        return h + self.out(seen).transpose(1, 2).unflatten(2, h.shape[2:])
