"""Bend: an activation that takes tangents along, with the gradients of both by hand."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

aten = torch.ops.aten


class Slopes(NamedTuple):
    """What is known of an activation a, y = a(x): ``times(a, v, x, y)`` = v a'(x) in one pass, ``second(a, x, y)`` = a''(x)."""

    times: Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
    second: Callable[[nn.Module, Tensor, Tensor], Tensor]


def _silu_second(a: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    gate = torch.sigmoid(x)
    return (gate - gate.square()) * (2 + x - 2 * y)


SLOPES: dict[type[nn.Module], Slopes] = {
    nn.Tanh: Slopes(lambda a, v, x, y: aten.tanh_backward(v, y), lambda a, x, y: 2 * y * (y.square() - 1)),
    nn.Sigmoid: Slopes(lambda a, v, x, y: aten.sigmoid_backward(v, y), lambda a, x, y: y * (1 - y) * (1 - 2 * y)),
    nn.Softplus: Slopes(
        lambda a, v, x, y: aten.softplus_backward(v, x, a.beta, a.threshold),
        lambda a, x, y: a.beta * aten.sigmoid_backward(torch.ones_like(x), torch.sigmoid(a.beta * x)),
    ),
    nn.ELU: Slopes(
        lambda a, v, x, y: aten.elu_backward(v, a.alpha, 1, 1, False, x),
        lambda a, x, y: torch.where(x > 0, 0.0, y + a.alpha),
    ),
    nn.SiLU: Slopes(lambda a, v, x, y: aten.silu_backward(v, x), _silu_second),
}


def bend(activation: nn.Module, x: Tensor, tangents: Tensor, scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """An activation of x ``(B, ...)``, and tangents ``(K, B or 1, ...)`` times its slope (and a scale of x's shape)."""
    if torch.is_grad_enabled():
        return Bend.apply(activation, x, tangents, scale)
    y = activation(x)
    return y, _moved(activation, tangents, x, y, scale)


class Bend(torch.autograd.Function):
    """One node for what autograd would take ten for, with four passes over the tangents on the way back."""

    @staticmethod
    def forward(ctx: Any, activation: nn.Module, x: Tensor, v: Tensor, scale: Tensor | None) -> tuple[Tensor, Tensor]:
        y = activation(x)
        ctx.activation = activation
        ctx.save_for_backward(x, y, v, scale)
        return y, _moved(activation, v, x, y, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_y: Tensor, of_w: Tensor) -> tuple:
        x, y, v, scale = ctx.saved_tensors
        slopes, a = SLOPES[type(ctx.activation)], ctx.activation
        along, of_scale = (of_w * v).sum(0), None
        if scale is not None:
            along, of_scale = along * scale, slopes.times(a, along, x, y)
        of_x = slopes.times(a, of_y, x, y).addcmul_(along, slopes.second(a, x, y))
        of_v = _moved(a, of_w, x, y, scale)
        return None, of_x, of_v if len(v[0]) == len(x) else of_v.sum(1, keepdim=True), of_scale


def _moved(activation: nn.Module, v: Tensor, x: Tensor, y: Tensor, scale: Tensor | None) -> Tensor:
    return SLOPES[type(activation)].times(activation, v if scale is None else v * scale, x, y)
