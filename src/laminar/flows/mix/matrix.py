"""Matrix: one matrix over the first axis of an event, the form that every linear mix shares."""

from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from laminar.flows.numerics import full_precision
from laminar.flows.space import Context, Space
from laminar.flows.transform import Transform


class Matrix(Transform):
    """z = W x (+ b) at every position of an image, or over a vector; log-det = positions * log|det W|."""

    def __init__(self, space: Space, bias: bool = False):
        super().__init__(space, space.within(None))
        self.positions = prod(space.event[1:])
        self.bias = nn.Parameter(torch.zeros(space.event[0], *[1] * (len(space.event) - 1))) if bias else None

    def weight(self) -> Tensor:
        """W, ``(C, C)``."""
        raise NotImplementedError

    def inverse_weight(self) -> Tensor:
        """W^-1, ``(C, C)``."""
        raise NotImplementedError

    def log_abs_det(self) -> Tensor:
        """log|det W|, a scalar."""
        raise NotImplementedError

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        z = self._multiply(x, self.weight)
        return z if self.bias is None else z + self.bias, self._log_det(x)

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        return self._multiply(z if self.bias is None else z - self.bias, self.inverse_weight)

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self.inverse(z), -self._log_det(z)

    def _log_det(self, x: Tensor) -> Tensor:
        return (self.positions * self.log_abs_det()).to(x.dtype).expand(len(x))

    def _multiply(self, x: Tensor, weight) -> Tensor:
        with full_precision(x):
            w = weight().to(x.dtype)
            return F.linear(x, w) if x.dim() == 2 else F.conv2d(x, w[..., None, None])


def random_rotation(n: int) -> Tensor:
    """A random orthogonal ``(n, n)`` matrix with determinant 1 or -1."""
    return torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, device="cpu"))[0].to(torch.get_default_dtype())
