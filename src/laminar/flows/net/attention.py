"""Multi-head self-attention (Vaswani et al. 2017) as conditioners of images use it: every position is a token."""

from torch import Tensor
from torch.nn import functional as F

from laminar.refused import Refused

MOST_TOKENS = 4096


def attend(qkv: Tensor, heads: int) -> Tensor:
    """Queries, keys and values ``(B, T, 3 C)``, each split over the heads -> ``(B, T, C)``."""
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def check_attention(name: str, event: tuple[int, ...], width: int, heads: int, cure: str) -> None:
    """Refuses heads that do not divide the width, and images whose attention matrices are out of proportion."""
    if width % heads:
        raise Refused(f"net={name} splits its width over its heads, and {width} is no multiple of {heads}: change heads")
    _, height, wide = event
    tokens = height * wide
    if tokens > MOST_TOKENS:
        gib = heads * tokens**2 * 4 / 2**30
        raise Refused(
            f"net={name} lets each of {height}x{wide} positions attend to every other, {gib:.1f} GiB of attention for each "
            f"image and layer, and stops at {MOST_TOKENS} positions: {cure}"
        )
