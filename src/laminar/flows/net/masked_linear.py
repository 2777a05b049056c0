"""A linear layer some of whose weights are, and stay, zero: what MADE is made of."""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIPS = 4  # that a layer's inputs are cut into ..
ALIGNED = 16  # .. at multiples of this, as processors multiply
DENSE = 0.75  # of all entries, above which a mask is multiplied with as a whole
WORTH = 3 * 2**20  # multiplications to a piece, from which on pieces save more than they cost; of halves, four times as many


class Piece(NamedTuple):
    """Outputs next to each other, each of which sees some of these inputs."""

    outputs: slice
    inputs: slice


class MaskedLinear(nn.Linear):
    """A linear layer some of whose weights are, and stay, zero. The mask costs a product with the weights' gradient alone; and
    where zeros fill a triangle, units being sorted by what they see, a CPU leaves out most of the multiplications by them.

    Args:
        mask: bool ``(after, before)``, true where there is a weight.
    """

    def __init__(self, mask: np.ndarray):
        super().__init__(mask.shape[1], mask.shape[0])
        # As numbers, for a product with truth values takes five times as long.
        self.register_buffer("mask", torch.from_numpy(mask).to(self.weight), persistent=False)
        self.pieces = pieces(mask)
        self.clean()

    @torch.no_grad()
    def clean(self) -> "MaskedLinear":
        self.weight *= self.mask
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x, self.free(), self.bias)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """x W^T + b, for x ``(B, before)`` and weights that are zero where the mask is, in their gradient as well."""
        if x.device.type != "cpu" or not self.pieces or torch.compiler.is_compiling():
            return F.linear(x, weight, bias)
        half, work = torch.is_autocast_enabled("cpu"), len(x) * weight.numel() * DENSE / len(self.pieces)
        if work < WORTH * (4 if half else 1):
            return F.linear(x, weight, bias)
        if half:
            x, weight, bias = (t if t is None else t.to(torch.get_autocast_dtype("cpu")) for t in (x, weight, bias))
        return _Piecewise.apply(x, weight, bias, self.pieces)

    def free(self) -> Tensor:
        """The weights, whose gradient passes the mask."""
        return _MaskedGradient.apply(self.weight, self.mask)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.clean()  # no file makes a value see what comes after it


def pieces(mask: np.ndarray) -> list[Piece]:
    """Of a mask, what covers its entries: none where it would leave out less than a quarter of the whole."""
    before = mask.shape[1]
    cuts = sorted({ALIGNED * round(number * before / STRIPS / ALIGNED) for number in range(STRIPS)} | {before})
    found = []
    for strip in pairwise(cuts):
        seen = mask[:, slice(*strip)].any(1)
        turns = np.flatnonzero(np.diff(seen, prepend=False, append=False))
        found += [Piece(slice(begin, end), slice(*strip)) for begin, end in turns.reshape(-1, 2).tolist()]
    covered = sum(mask[piece].size for piece in found)
    return found if covered <= DENSE * mask.size else []


class _MaskedGradient(torch.autograd.Function):
    """A weight as it is; its gradient without the masked entries, so that they stay the zeros that they were born as."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(mask)
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return gradient * mask, None


class _Piecewise(torch.autograd.Function):
    """x W^T + b, piece by piece. The gradient of a weight outside of all pieces is zero."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, pieces: list[Piece]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.pieces = pieces
        y = x.new_zeros(len(x), len(weight)) if bias is None else bias.repeat(len(x), 1)
        for piece in pieces:
            y[:, piece.outputs].addmm_(x[:, piece.inputs], weight[piece].t())
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), (for_x, for_weight, for_bias, _) = ctx.saved_tensors, ctx.needs_input_grad
        if torch.is_grad_enabled():  # for those who differentiate twice
            of_x, of_weight = gradient @ weight if for_x else None, gradient.t() @ x if for_weight else None
        else:
            of_x, of_weight = torch.zeros_like(x) if for_x else None, torch.zeros_like(weight) if for_weight else None
            for piece in ctx.pieces:
                seen = gradient[:, piece.outputs]
                if for_x:
                    of_x[:, piece.inputs].addmm_(seen, weight[piece])
                if for_weight:
                    torch.mm(seen.t(), x[:, piece.inputs], out=of_weight[piece])
        return of_x, of_weight, gradient.sum(0) if for_bias else None, None
