"""Invertible 1x1 convolution with a dense matrix (Glow, Kingma & Dhariwal 2018, https://arxiv.org/abs/1807.03039)."""

import torch
from torch import Tensor, nn

from laminar.flows.mix.matrix import Matrix, random_rotation
from laminar.flows.space import Space


class Conv1x1(Matrix):
    """z = W x over the channels; log-det = H W log|det W|, the determinant and the inverse taken in float64.

    Args:
        near_identity: start at I + near_identity * N(0, 1) (Flow++: 0.001); None starts at a random rotation (Glow).
    """

    def __init__(self, space: Space, near_identity: float | None = None):
        super().__init__(space)
        n = space.event[0]
        start = random_rotation(n) if near_identity is None else torch.eye(n) + near_identity * torch.randn(n, n)
        self.matrix = nn.Parameter(start)

    def weight(self) -> Tensor:
        return self.matrix

    def inverse_weight(self) -> Tensor:
        return torch.linalg.inv(self.matrix.double())

    def log_abs_det(self) -> Tensor:
        return torch.linalg.slogdet(self.matrix.double())[1]
