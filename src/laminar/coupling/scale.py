"""Scale law: NICE's diagonal scaling (Dinh et al. 2014, https://arxiv.org/abs/1410.8516, section 3.3)."""

import torch
from torch import Tensor

from laminar.coupling.law import Law


class Scale(Law):
    """y = x exp(s);  x = y exp(-s);  log-slope s, kept in [-40, 40], as far as float32 reaches."""

    arity = 1

    def __call__(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        log_scale = params[:, 0].clamp(-40.0, 40.0)
        return x * log_scale.exp(), log_scale.expand_as(x)

    def inverse(self, y: Tensor, params: Tensor) -> Tensor:
        return y * torch.exp(-params[:, 0].clamp(-40.0, 40.0))
