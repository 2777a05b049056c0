"""Affine law (RealNVP, Dinh et al. 2016, https://arxiv.org/abs/1605.08803), with a choice of scale maps."""

from math import log

import torch
from torch import Tensor
from torch.nn import functional as F

from laminar.flows.coupling.law import Law


class ScaleMap:
    """log scale = map(s), s being a net's unconstrained answer. ``shared`` counts what the layer learns beside it."""

    shared = 0

    def __call__(self, s: Tensor, shared: Tensor | None) -> Tensor:
        raise NotImplementedError


class Exp(ScaleMap):
    """scale = exp(s), in [e^-40, e^40]: free as far as float32 reaches, and the first to blow up in deep flows."""

    def __call__(self, s: Tensor, shared: Tensor | None) -> Tensor:
        return s.clamp(-40.0, 40.0)


class Bounded(ScaleMap):
    """scale = exp(b tanh(s / b)), in (e^-b, e^b)."""

    def __init__(self, bound: float = 2.0):
        self.bound = bound

    def __call__(self, s: Tensor, shared: Tensor | None) -> Tensor:
        return self.bound * torch.tanh(s / self.bound)


class Tanh(ScaleMap):
    """scale = exp(g tanh(s)), in (e^-|g|, e^|g|), with one learned g per coupling (RealNVP). Starts at g = 1."""

    shared = 1

    def __call__(self, s: Tensor, shared: Tensor | None) -> Tensor:
        return shared[0] * torch.tanh(s)


class Sigmoid(ScaleMap):
    """scale = gain * sigmoid(s + shift), in (0, gain). Glow: shift 2, gain 1. Jet: shift 0, gain 2, the identity at s = 0."""

    def __init__(self, shift: float = 2.0, gain: float = 1.0):
        self.shift, self.log_gain = shift, log(gain)

    def __call__(self, s: Tensor, shared: Tensor | None) -> Tensor:
        return F.logsigmoid(s + self.shift) + self.log_gain


class Affine(Law):
    """y = x * scale(s) + t;  x = (y - t) / scale(s);  log-slope log scale(s). Parameters in the order s, t.

    Args:
        scale: the map of s.
        centred: y = (x - t) * scale(s) instead, t being in x's units whatever the scale: the mean of an autoregressive
            conditional, as MAF and TarFlow write it.
    """

    arity = 2
    linear = True

    def __init__(self, scale: ScaleMap, centred: bool = False):
        self.scale, self.centred = scale, centred
        self.shared = scale.shared

    def start(self, generator: torch.Generator) -> Tensor:
        return torch.cat([torch.zeros(self.arity), torch.ones(self.shared)])

    def __call__(self, x: Tensor, params: Tensor, shared: Tensor | None = None) -> tuple[Tensor, Tensor]:
        s, t = params.unbind(1)
        log_scale = self.scale(s, shared)
        if self.centred:
            return (x - t) * log_scale.exp(), log_scale
        return torch.addcmul(t, x, log_scale.exp()), log_scale

    def inverse(self, y: Tensor, params: Tensor, shared: Tensor | None = None) -> Tensor:
        s, t = params.unbind(1)
        scale = self.scale(s, shared).neg().exp()
        return torch.addcmul(t, y, scale) if self.centred else (y - t) * scale
