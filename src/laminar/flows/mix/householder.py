"""Householder flow (Tomczak & Welling 2016, https://arxiv.org/abs/1611.09630): a learned rotation."""

import torch
from torch import Tensor, nn

from laminar.flows.mix.matrix import Matrix
from laminar.flows.numerics import full_precision
from laminar.flows.space import Space
from laminar.refused import Refused


class Householder(Matrix):
    """z = Q x over the channels; x = Q^T z; log-det 0. Q is a product of reflections in learned vectors v_1 .. v_n::

        Q = H_1 H_2 .. H_n,   H_i = I - 2 v_i v_i^T / |v_i|^2

    accumulated as Q = I - V^T T V, with the v_i in V's rows and T^-1 = triu(V V^T, 1) + diag(V V^T) / 2: one triangular
    solve instead of n reflections one after the other.

    Args:
        reflections: n. As many as there are channels reach every rotation.
    """

    def __init__(self, space: Space, reflections: int = 8):
        super().__init__(space)
        if reflections < 1:
            raise Refused(f"mix.reflections={reflections}: a Householder mix needs at least 1 reflection")
        self.vectors = nn.Parameter(torch.randn(reflections, space.event[0]))

    def weight(self) -> Tensor:
        with full_precision(self.vectors):
            v = self.vectors.double()
            gram = v @ v.T
            inner = gram.triu(1) + gram.diagonal().div(2).diag()
            return torch.eye(v.shape[1], dtype=v.dtype, device=v.device) - v.T @ torch.linalg.solve_triangular(
                inner, v, upper=True
            )

    def inverse_weight(self) -> Tensor:
        return self.weight().T

    def log_abs_det(self) -> Tensor:
        return self.vectors.new_zeros(())
