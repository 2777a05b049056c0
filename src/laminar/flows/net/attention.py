"""Multi-head self-attention (Vaswani et al. 2017) and its block, as conditioners whose positions are tokens use them."""

from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from laminar.refused import Refused

MOST_TOKENS = 4096


class Past:
    """Keys and values of the tokens so far, so that what comes after them needs no second pass over them.

    In place, or by concatenation where gradients must find every tensor as it was. Lives as long as one call.

    Args:
        sees: whether a token sees another, bool ``(T, T)``, of all that there will be.
    """

    def __init__(self, sees: Tensor):
        self.sees, self.length, self.kept = sees, 0, None

    def join(self, new: Tensor) -> Tensor:
        """The keys and values of further tokens ``(2, B, heads, n, C)``, behind all before them."""
        if torch.is_grad_enabled():
            joined = new if self.kept is None else torch.cat([self.kept[..., : self.length, :], new], 3)
            self.kept = joined
        else:
            if self.kept is None:
                self.kept = new.new_empty(*new.shape[:3], len(self.sees), new.shape[4])
            self.kept[..., self.length : self.length + new.shape[3], :] = new
            joined = self.kept[..., : self.length + new.shape[3], :]
        self.length += new.shape[3]
        return joined

    def keep(self, length: int) -> None:
        """Forgets the tokens behind the first ``length``."""
        self.length = length

    def drop(self, rows: Tensor) -> None:
        """Forgets these rows, bool ``(B,)``."""
        self.kept = self.kept[:, ~rows]


class Block(nn.Module):
    """h + attention(norm(h)), then h + mlp(norm(h)), the mlp 4 times as wide: ``(B, T, width) -> (B, T, width)``.

    Args:
        gelu: ``none`` is the exact one, ``tanh`` its approximation.
    """

    def __init__(self, width: int, heads: int, gelu: str = "none"):
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate=gelu), nn.Linear(4 * width, width))

    def forward(self, h: Tensor, causal: bool = False, past: Past | None = None) -> Tensor:
        h = h + self.out(attend(self.qkv(self.norm_attention(h)), self.heads, causal, past))
        return h + self.mlp(self.norm_mlp(h))


def attend(qkv: Tensor, heads: int, causal: bool = False, past: Past | None = None) -> Tensor:
    """Queries, keys and values ``(B, T, 3 C)``, each split over the heads -> ``(B, T, C)``.

    Args:
        causal: each token attends to itself and those before it alone.
        past: of the tokens before the first of these; these join it.
    """
    qkv = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    if past is None:
        q, k, v = qkv.unbind(0)
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)
    q, (k, v) = qkv[0], past.join(qkv[1:]).unbind(0)
    new, total = q.shape[2], k.shape[2]
    before = total - new
    # A single token sees all there is; is_causal counts from the first key, which is right where nothing came before.
    mask = past.sees[before:total, :total] if new > 1 and before else None
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal and not before and new > 1).transpose(1, 2).flatten(2)


def check_attention(name: str, event: tuple[int, ...], width: int, heads: int, cure: str) -> None:
    """Refuses heads that do not divide the width, and events whose attention matrices are out of proportion."""
    if width % heads:
        raise Refused(f"net={name} splits its width over its heads, and {width} is no multiple of {heads}: change heads")
    sizes = event[1:] or event
    tokens = prod(sizes)
    if tokens > MOST_TOKENS:
        gib = heads * tokens**2 * 4 / 2**30
        raise Refused(
            f"net={name} lets each of {'x'.join(map(str, sizes))} positions attend to every other, {gib:.1f} GiB of attention "
            f"for each event and layer, and stops at {MOST_TOKENS} positions: {cure}"
        )
