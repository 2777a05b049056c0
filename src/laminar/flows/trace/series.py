"""Series: log det(I + J) as a power series of traces (i-ResNet, https://arxiv.org/abs/1811.00995), and its gradient as a
Neumann series (Residual Flows, https://arxiv.org/abs/1906.02735)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from laminar.flows import ledger
from laminar.flows.trace.hutchinson import Hutchinson
from laminar.flows.trace.trace import Hand, Pulled
from laminar.refused import Refused

GRADIENTS = ("neumann", "series")


class Series(Hutchinson):
    """sum_k (-1)^(k+1) w_k v^T J^k v / k with E[v v^T] = 1: of log det(I + J), as far as the weights w reach.

    Its gradient is that of the same numbers (``series``, whose memory grows with the terms), or by ``neumann``
    sum_k (-1)^(k+1) w_k v^T J^(k-1) dJ v, which has the same mean: one row v^T sum_k ... is kept whatever the number of
    terms, and the net is computed again on the way back. Either way the number itself is that of the first line.

    Args:
        num_probes, probes: as of ``trace=hutchinson``.
        gradients: ``neumann`` or ``series``. The former has first derivatives only.
    """

    gives = ("log_det",)

    def __init__(self, num_probes: int = 1, probes: str = "rademacher", gradients: str = "neumann"):
        super().__init__(num_probes, probes)
        if gradients not in GRADIENTS:
            raise Refused(f"trace.gradients is {' or '.join(GRADIENTS)}, not {gradients!r}")
        self.gradients = gradients

    def weights(self, x: Tensor, training: bool) -> Tensor:
        """w_1 ... w_n of each row, or of all rows at once: ``(n, B or 1)``."""
        raise NotImplementedError

    @torch.compiler.disable
    def log_det(
        self,
        field: Callable[..., Tensor],
        x: Tensor,
        given: Sequence[Tensor] = (),
        parameters: Sequence[Tensor] = (),
        training: bool = False,
        hand: Hand | None = None,
    ) -> tuple[Tensor, Tensor]:
        weights, probes = self.weights(x, training), self.draw(x).transpose(0, 1)
        ledger.note("terms", (weights > 0).sum(0).to(x).expand(len(x)))
        learning = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *given, *parameters))
        if learning and self.gradients == "neumann":
            parameters = [parameter for parameter in parameters if parameter.requires_grad]
            method = NeumannRows if hand is None else NeumannColumns
            return method.apply(field if hand is None else hand, weights, probes, len(given), x, *given, *parameters)
        if hand is not None and not learning:
            y, push = hand.linearised(x, *given)
            return y, powers(push, weights, probes)[0]
        pulled = Pulled(lambda x: field(x, *given), x)
        total = powers(pulled.each, weights, probes)[0]
        return pulled.end(), total


def powers(push: Callable[[Tensor], Tensor], weights: Tensor, probes: Tensor, summed: bool = False) -> tuple[Tensor, Tensor]:
    """The mean over probes v ``(K, B, D)`` of sum_k (-1)^(k+1) w_k v^T J^k v / k, ``(B,)``, by J or its transpose; and sum_k
    (-1)^(k+1) w_k J^(k-1) v, if it is asked for."""
    power, total, sums = probes, 0.0, torch.zeros_like(probes)
    for k, weight in enumerate(weights, 1):
        sign = (-1) ** (k + 1)
        if summed:
            sums = sums + sign * weight.unsqueeze(1) * power
        power = push(power)
        total = total + weight * (sign / k) * (power * probes).sum(2).mean(0)
    return total, sums


class Neumann(torch.autograd.Function):
    """A series whose way back keeps x, v and what ``powers`` sums, for any gradient of the rows' numbers."""

    @staticmethod
    def start(field: Any, weights: Tensor, probes: Tensor, x: Tensor, given: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """y, the series, and the sums, as ``powers`` gives them."""
        raise NotImplementedError

    @staticmethod
    def finish(field: Any, x: Tensor, given: Sequence[Tensor], probes: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
        """y, and a number whose gradient is the series', both differentiable."""
        raise NotImplementedError

    @classmethod
    def forward(
        cls, ctx: Any, field: Any, weights: Tensor, probes: Tensor, count: int, x: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, Tensor]:
        y, total, sums = cls.start(field, weights, probes, x.detach(), [value.detach() for value in tensors[:count]])
        ctx.field, ctx.finish, ctx.parameters = field, cls.finish, tensors[count:]
        ctx.save_for_backward(x, probes, sums, *tensors[:count])
        return y, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_y: Tensor, of_total: Tensor) -> tuple:
        x, probes, sums, *given = ctx.saved_tensors
        with torch.enable_grad():
            here = x.detach().requires_grad_()
            leaves = [value.detach().requires_grad_(value.requires_grad) for value in given]
            y, total = ctx.finish(ctx.field, here, leaves, probes, sums)
        asked = [here, *(leaf for leaf in leaves if leaf.requires_grad), *ctx.parameters]
        found = torch.autograd.grad([y, total], asked, [of_y, of_total], allow_unused=True)
        own, rest = iter(found[: len(found) - len(ctx.parameters)]), found[len(found) - len(ctx.parameters) :]
        of_x = next(own)
        return None, None, None, None, of_x, *(next(own) if leaf.requires_grad else None for leaf in leaves), *rest


class NeumannRows(Neumann):
    """By autograd, of ``field``: rows v^T J^k, and a second derivative on the way back."""

    @staticmethod
    def start(
        field: Callable[..., Tensor], weights: Tensor, probes: Tensor, x: Tensor, given: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        pulled = Pulled(lambda x: field(x, *given), x)
        return pulled.end(), *powers(pulled.each, weights, probes, summed=True)

    @staticmethod
    def finish(
        field: Callable[..., Tensor], x: Tensor, given: Sequence[Tensor], probes: Tensor, sums: Tensor
    ) -> tuple[Tensor, Tensor]:
        y, total = field(x, *given), 0.0
        for v, pull in zip(probes, sums, strict=True):
            (row,) = torch.autograd.grad(y, x, pull, create_graph=True)
            total = total + (row * v).sum(1) / len(probes)
        return y, total


class NeumannColumns(Neumann):
    """By hand: tangents J^k v, carried once more on the way back."""

    @staticmethod
    def start(hand: Hand, weights: Tensor, probes: Tensor, x: Tensor, given: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        y, push = hand.linearised(x, *given)
        return y, *powers(push, weights, probes, summed=True)

    @staticmethod
    def finish(hand: Hand, x: Tensor, given: Sequence[Tensor], probes: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
        y, moved = hand.carry(x, sums, *given)
        return y, (moved * probes).sum(2).mean(0)
