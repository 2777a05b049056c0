"""The gate of inverse autoregressive flows (Kingma et al. 2016, https://arxiv.org/abs/1606.04934, equation 14)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from laminar.flows.coupling.law import Law


class Gated(Law):
    """y = g x + (1 - g) t, g = sigmoid(s + forget);  x = t + (y - t) / g;  log-slope log g. Parameters in the order s, t.

    An affine law whose step is never longer than from x to t, as an LSTM updates its memory.

    Args:
        forget: how far the gate stands open at the start: at +1 or +2 a step changes little.
    """

    arity = 2
    linear = True

    def __init__(self, forget: float = 2.0):
        self.forget = forget

    def __call__(self, x: Tensor, params: Tensor, shared: Tensor | None = None) -> tuple[Tensor, Tensor]:
        s, t = params.unbind(1)
        log_gate = F.logsigmoid(s + self.forget)
        return torch.lerp(t, x, log_gate.exp()), log_gate

    def inverse(self, y: Tensor, params: Tensor, shared: Tensor | None = None) -> Tensor:
        s, t = params.unbind(1)
        return torch.addcmul(t, y - t, F.logsigmoid(s + self.forget).neg().exp())
