"""Integral of a positive net (UMNN, Wehenkel & Louppe 2019, https://arxiv.org/abs/1908.05164)."""

from math import expm1, log, pi

import torch
from torch import Tensor
from torch.nn.functional import softplus

from laminar.flows.coupling.law import Law
from laminar.flows.numerics import full_precision, invert
from laminar.refused import Refused

MIN_DENSITY = 1e-3
SHIFT = log(expm1(1 - MIN_DENSITY))


class Integral(Law):
    """The integral of a positive net g over [0, x], by Clenshaw-Curtis quadrature with n + 1 nodes c_j in [0, 1]::

        y     = e_0 + x sum_j v_j g(t_j, e),   t_j = c_j x,   g = softplus(net) + 1e-3
        dy/dx = sum_j v_j (g(t_j, e) + t_j g'(t_j, e))

    The embedding e is each element's own, the net's weights are shared. The map *is* the quadrature, and its slope is taken of
    the same sum, not as g(x) of the integral that it stands for: so the density is normalised whatever n is. It increases as
    long as the nodes resolve g; where they do not, the slope's log is not a number, and more nodes are the cure.

    The paper's hidden units are leaky ReLUs. Here they are tanh: smooth, so that few nodes suffice, and bounded, so that g is
    too: y takes every value, and x lies between (y - e_0) / max g and (y - e_0) / min g, where ``numerics.find_root`` finds it.

    Args:
        embedding: how many values e has; all that the conditioner says.
        width, depth: of the net's hidden layers.
        nodes: n.
    """

    closed = False

    def __init__(self, embedding: int = 20, width: int = 50, depth: int = 2, nodes: int = 20):
        if min(embedding, width, depth, nodes) < 1:
            raise Refused("coupling.embedding, coupling.width, coupling.depth and coupling.nodes must all be at least 1")
        self.arity, self.nodes = embedding, nodes
        self.sizes = [1 + embedding, *[width] * depth, 1]
        self.shared = sum((1 + inputs) * outputs for inputs, outputs in zip(self.sizes, self.sizes[1:], strict=False))

    def start(self, generator: torch.Generator) -> Tensor:
        """Nearly the identity: a random net whose last layer says almost nothing, so that g is nearly 1."""
        layers = []
        for inputs, outputs in zip(self.sizes, self.sizes[1:], strict=False):
            std = inputs**-0.5 * (1.0 if outputs > 1 else 0.01)
            layers += [std * torch.randn(inputs * outputs, generator=generator), torch.zeros(outputs)]
        return torch.cat([torch.zeros(self.arity), *layers])

    def __call__(self, x: Tensor, params: Tensor, shared: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, log_slope = self._integral(x.flatten(1), params.flatten(2), self._weights(shared, x))
        return y.view_as(x), log_slope.view_as(x)

    def inverse(self, y: Tensor, params: Tensor, shared: Tensor | None = None) -> Tensor:
        weights, params, flat = self._weights(shared, y), params.flatten(2), y.flatten(1)
        last, bias = (part.detach()[..., 0] for part in weights[-1])
        reach = last.abs().sum(-1)
        target = flat.detach() - params[:, 0].detach()
        ends = torch.stack([target / _positive(bias - reach), target / _positive(bias + reach)])
        x = invert(lambda x: self._integral(x, params, weights), flat, ends.amin(0), ends.amax(0), target)
        return x.view_as(y)

    def _weights(self, shared: Tensor, like: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Each layer's weights ``(in, out)`` and biases ``(out,)``; with an axis for the elements where each has its own."""
        shared = shared.flatten() if shared.numel() == self.shared else shared.expand(-1, *like.shape[1:]).flatten(1).T
        layers = []
        for inputs, outputs in zip(self.sizes, self.sizes[1:], strict=False):
            weight, bias, shared = shared.split([inputs * outputs, outputs, shared.shape[-1] - (inputs + 1) * outputs], -1)
            layers.append((weight.unflatten(-1, (inputs, outputs)), bias))
        return layers

    def _integral(self, x: Tensor, params: Tensor, weights: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """y and log dy/dx, for x ``(B, N)`` and the embedding ``(B, E, N)``."""
        places, shares = clenshaw_curtis(self.nodes, x)
        t = (x.unsqueeze(-1) * places).unsqueeze(-1)  # (B, N, n + 1, 1)
        with full_precision(x):
            # Beside each unit walks t times its derivative by t.
            (weight, bias), *rest = weights
            moving = t @ weight[..., :1, :]
            h = moving + params.transpose(1, 2).unsqueeze(-2) @ weight[..., 1:, :] + bias.unsqueeze(-2)
            for weight, bias in rest:
                h = h.tanh()
                moving = (moving * (1 - h.square())) @ weight
                h = h @ weight + bias.unsqueeze(-2)
            h, moving = h.squeeze(-1), moving.squeeze(-1)
            mean = _positive(h) @ shares
            slope = mean + (torch.sigmoid(h + SHIFT) * moving) @ shares
        return torch.addcmul(params[:, 0], x, mean), slope.log()


def _positive(h: Tensor) -> Tensor:
    """g of the net's answer: positive, and 1 at 0."""
    return softplus(h + SHIFT) + MIN_DENSITY


def clenshaw_curtis(n: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """n + 1 nodes in [0, 1], denser towards its ends, and their positive weights, which sum to 1."""
    j = torch.arange(n + 1, device=like.device)
    k = torch.arange(1, n // 2 + 1, device=like.device)
    nodes = (1 + torch.cos(j.to(like.dtype) * (pi / n))) / 2
    harmonics = torch.cos((j.unsqueeze(1) * k % n).to(like.dtype) * (2 * pi / n))
    shares = (1 - (harmonics * torch.where(2 * k == n, 1, 2) / (4 * k.square() - 1)).sum(1)) / n
    return nodes, torch.where(j % n == 0, shares / 2, shares)
