"""Invertible linear map as W = P L U (Glow, Kingma & Dhariwal 2018, https://arxiv.org/abs/1807.03039, section 3.2)."""

import torch
from torch import Tensor, nn

from laminar.flows.mix.matrix import Matrix, random_rotation
from laminar.flows.space import Space


class PLU(Matrix):
    """z = P L (U + diag(sign * exp(s))) x; log-det = positions * sum s, in O(C). P and the signs are fixed.

    Args:
        identity: start at a permutation (spline flows' linear layer); False starts at a random rotation (Glow).
        bias: add a learned vector, z = W x + b (spline flows on tables).
    """

    def __init__(self, space: Space, identity: bool = False, bias: bool = False):
        super().__init__(space, bias)
        n = space.event[0]
        start = torch.eye(n, device="cpu")[torch.randperm(n, device="cpu")] if identity else random_rotation(n)
        permutation, lower, upper = torch.linalg.lu(start)
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", diagonal.sign())
        # One matrix holds L below its diagonal, U above it, and s on it.
        self.matrix = nn.Parameter(lower.tril(-1) + upper.triu(1) + diagonal.abs().log().diag())

    def factors(self) -> tuple[Tensor, Tensor]:
        identity = torch.eye(len(self.sign), dtype=self.matrix.dtype, device=self.matrix.device)
        diagonal = self.sign * self.matrix.diagonal().exp()
        return self.matrix.tril(-1) + identity, self.matrix.triu(1) + diagonal.diag()

    def weight(self) -> Tensor:
        lower, upper = self.factors()
        return self.permutation @ lower @ upper

    def inverse_weight(self) -> Tensor:
        lower, upper = (factor.double() for factor in self.factors())
        half = torch.linalg.solve_triangular(lower, self.permutation.T.double(), upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(upper, half, upper=True)

    def log_abs_det(self) -> Tensor:
        return self.matrix.diagonal().sum()
