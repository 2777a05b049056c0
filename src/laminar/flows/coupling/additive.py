"""Additive law (NICE, Dinh et al. 2014, https://arxiv.org/abs/1410.8516)."""

import torch
from torch import Tensor

from laminar.flows.coupling.law import Law


class Additive(Law):
    """y = x + t;  x = y - t;  log-slope 0."""

    arity = 1
    linear = True

    def __call__(self, x: Tensor, params: Tensor, shared: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x + params[:, 0], torch.zeros_like(x)

    def inverse(self, y: Tensor, params: Tensor, shared: Tensor | None = None) -> Tensor:
        return y - params[:, 0]
