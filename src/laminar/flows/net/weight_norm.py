"""Weight norm with a context: what each unit sees is scaled and shifted by it (Huang, Krueger, Lacoste, Courville 2018,
https://arxiv.org/abs/1804.00779; github.com/CW-Huang/torchkit), as hypernetworks do with the least of parameters."""

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from laminar.flows.net.masked_linear import MaskedLinear


class MaskedWeightNorm(MaskedLinear):
    """y = (A c + a) V x + B c + b, where a and b have an entry for each row of V: ``(B, before) -> (B, after)``.

    A masked entry of V is zero like any ``MaskedLinear``'s, by its birth and its gradient; to divide a row by its norm leaves
    zeros zero, and the norm is that of the free entries. Nothing else joins two units, so a leak has no way in.

    Args:
        mask: bool ``(after, before)``.
        context: values of c; with 0 of them c is a single zero, as in the published nets of tables.
        norm: each row of V is divided by its norm.
    """

    def __init__(self, mask: np.ndarray, context: int, norm: bool = False):
        super().__init__(mask)
        self.norm, after = norm, len(mask)
        self.scale, self.shift = nn.Linear(context or 1, after), nn.Linear(context or 1, after, bias=False)
        for conditional in (self.scale, self.shift):
            nn.init.normal_(conditional.weight, std=1e-3)
        nn.init.ones_(self.scale.bias)

    def forward(self, x: Tensor, given: Tensor | None = None) -> Tensor:
        scale, shift = self.around(given)
        return scale * self.product(x, self.free()) + shift

    def around(self, given: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scale and shift of the outputs, ``(B, after)``, or ``(1, after)`` without a context."""
        given = self.weight.new_zeros(1, 1) if given is None else given
        return self.scale(given), F.linear(given, self.shift.weight, self.bias)

    def free(self) -> Tensor:
        weight = super().free()
        return weight * (weight.square().sum(1, keepdim=True) + 1e-12).rsqrt() if self.norm else weight
