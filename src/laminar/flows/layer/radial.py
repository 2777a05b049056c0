"""Radial flow (Rezende, Mohamed 2015, https://arxiv.org/abs/1505.05770, section 4.1)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from laminar.flows.layer.oneway import OneWay
from laminar.flows.net.net import Net
from laminar.flows.space import Context, Space


class Radial(OneWay):
    """z = x + beta (x - c) / (alpha + r),  r = |x - c|: space swells or shrinks around c::

        log-det = (D - 1) log(1 + beta / (alpha + r)) + log(1 + alpha beta / (alpha + r)^2)

    alpha = softplus(a) > 0 and beta = softplus(b) - alpha > -alpha, which makes it a bijection.
    Begins as the identity, beta = 0.
    """

    def __init__(self, space: Space, net: Callable[..., Net] | None = None):
        super().__init__(space, (torch.randn(space.size), torch.zeros(1), torch.zeros(1)), net)

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        centre, a, b = self.params(x, context)
        alpha = F.softplus(a)
        beta, away = F.softplus(b) - alpha, x - centre
        r = (away.square().sum(1, keepdim=True) + torch.finfo(x.dtype).tiny).sqrt()
        pull = beta / (alpha + r)
        log_det = (x.shape[1] - 1) * torch.log1p(pull) + torch.log1p(pull * alpha / (alpha + r))
        return x + pull * away, log_det.squeeze(1)
