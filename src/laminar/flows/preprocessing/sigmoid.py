"""Sigmoid: from the whole real line into the unit interval, the end of a flow that draws there."""

import torch
from torch import Tensor
from torch.nn import functional as F

from laminar.flows.numerics import sum_event
from laminar.flows.space import Context, Space
from laminar.flows.transform import Transform


class Sigmoid(Transform):
    """z = sigmoid(x), in (0, 1); log-det = sum [log z + log(1 - z)]."""

    def __init__(self, space: Space):
        super().__init__(space, space.within(1.0))

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return torch.sigmoid(x), -sum_event(F.softplus(x) + F.softplus(-x))

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        return torch.logit(z)

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return torch.logit(z), -sum_event(z.log() + torch.log1p(-z))
