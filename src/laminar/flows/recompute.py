"""Recompute: parts whose activations are not kept for the way back of gradients, but computed again.

``checkpointed`` keeps what enters each part, and runs it once more. ``backtracked`` keeps what leaves the last of several
bijections, and finds what entered each by its inverse (Gomez, Ren, Urtasun, Grosse 2017, https://arxiv.org/abs/1707.04585): the
memory of a chain is that of one part, however long it is. Gradients are those of kept activations, to the inverses' rounding.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from laminar.flows.space import Context


def kept(parts: Iterable[nn.Module], x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
    """z and the sum of the contributions of some transforms, one after another."""
    total = torch.zeros(len(x), device=x.device)
    for part in parts:
        x, contribution = part(x, context)
        total = total + contribution
    return x, total


def checkpointed(parts: Sequence[nn.Module], x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
    """The same, each part under torch's activation checkpointing."""
    total = torch.zeros(len(x), device=x.device)
    for part in parts:
        x, contribution = checkpoint(part, x, context, use_reentrant=False)
        total = total + contribution
    return x, total


def backtracked(parts: Sequence[nn.Module], x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
    """The same of bijections with inverses in closed form, by one node of the graph."""
    names = list(context or {})
    weights = [weight for part in parts for weight in part.parameters() if weight.requires_grad]
    return _Backtracked.apply(parts, names, x, *(context[name] for name in names), *weights)


RECOMPUTED = {"checkpoint": checkpointed, "reversible": backtracked}


class _Backtracked(Function):
    @staticmethod
    def forward(ctx: Any, parts: Sequence[nn.Module], names: list[str], x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        values = given[: len(names)]
        context = dict(zip(names, values, strict=True)) or None
        x, total = kept(parts, x, context)
        ctx.parts, ctx.names, ctx.weights = parts, names, given[len(names) :]
        ctx.casts = _casts(x.device.type)
        ctx.save_for_backward(x, *values)
        return x, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_total: Tensor) -> tuple:
        z, *values = ctx.saved_tensors
        seen = [value.detach().requires_grad_(value.is_floating_point()) for value in values]
        context = dict(zip(ctx.names, seen, strict=True)) or None
        asked = [value for value in seen if value.requires_grad]
        found = {id(tensor): None for tensor in (*asked, *ctx.weights)}
        with ExitStack() as stack:
            for cast in ctx.casts:
                stack.enter_context(torch.autocast(**cast))
            for part in reversed(ctx.parts):
                with torch.no_grad():
                    x = part.inverse(z, context)
                x = x.detach().requires_grad_()
                with torch.enable_grad():
                    ends = part(x, context)
                weights = [weight for weight in part.parameters() if weight.requires_grad]
                inputs = [x, *asked, *weights]
                moved = [(end, g) for end, g in zip(ends, (grad, grad_total), strict=True) if end.requires_grad]
                grads = torch.autograd.grad([end for end, _ in moved], inputs, [g for _, g in moved], allow_unused=True)
                grad = grads[0] if grads[0] is not None else torch.zeros_like(x)
                for tensor, g in zip(inputs[1:], grads[1:], strict=True):
                    before = found[id(tensor)]
                    found[id(tensor)] = g if before is None else before if g is None else before + g
                z = x.detach()
        of_context = [found[id(value)] if value.requires_grad else None for value in seen]
        return None, None, grad, *of_context, *(found[id(weight)] for weight in ctx.weights)


def _casts(device: str) -> list[dict[str, Any]]:
    """The autocast that is in force, as words that open it again."""
    return [
        {"device_type": kind, "dtype": torch.get_autocast_dtype(kind), "enabled": torch.is_autocast_enabled(kind)}
        for kind in dict.fromkeys((device, "cpu"))
    ]
