"""Series: log det(I + J) as a power series of traces (i-ResNet, https://arxiv.org/abs/1811.00995), and its gradient as a
Neumann series (Residual Flows, https://arxiv.org/abs/1906.02735)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from laminar.flows import ledger
from laminar.flows.trace.hutchinson import Hutchinson
from laminar.flows.trace.trace import Carry, Pulled
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
        carry: Carry | None = None,
    ) -> tuple[Tensor, Tensor]:
        weights, probes = self.weights(x, training), self.draw(x)
        ledger.note("terms", (weights > 0).sum(0).to(x).expand(len(x)))
        learning = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *given, *parameters))
        if learning and self.gradients == "neumann":
            parameters = [parameter for parameter in parameters if parameter.requires_grad]
            return Neumann.apply(field, carry, weights, probes, len(given), x, *given, *parameters)
        pulled, total = Pulled(lambda x: field(x, *given), x), 0.0
        for v in probes.unbind(1):
            row = v
            for k, weight in enumerate(weights, 1):
                row = pulled(row)
                total = total + weight * ((-1) ** (k + 1) / k / self.num_probes) * (row * v).sum(1)
        return pulled.end(), total


class Neumann(torch.autograd.Function):
    """A series whose way back keeps x, v and sum_k (-1)^(k+1) w_k v^T J^(k-1), for any gradient of the rows' numbers."""

    @staticmethod
    def forward(
        ctx: Any,
        field: Callable[..., Tensor],
        carry: Carry | None,
        weights: Tensor,
        probes: Tensor,
        count: int,
        x: Tensor,
        *tensors: Tensor,
    ) -> tuple[Tensor, Tensor]:
        given, total, sums = [value.detach() for value in tensors[:count]], 0.0, []
        with torch.enable_grad():
            here = x.detach().requires_grad_()
            y = field(here, *given)
        for v in probes.unbind(1):
            row, pull = v, torch.zeros_like(v)
            for k, weight in enumerate(weights, 1):
                pull = pull + (-1) ** (k + 1) * weight.unsqueeze(1) * row
                (row,) = torch.autograd.grad(y, here, row, retain_graph=True)
                total = total + weight * ((-1) ** (k + 1) / k / probes.shape[1]) * (row * v).sum(1)
            sums.append(pull)
        ctx.field, ctx.carry, ctx.parameters = field, carry, tensors[count:]
        ctx.save_for_backward(x, probes, torch.stack(sums, 1), *tensors[:count])
        return y.detach(), total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_y: Tensor, of_total: Tensor) -> tuple:
        x, probes, sums, *given = ctx.saved_tensors
        with torch.enable_grad():
            here = x.detach().requires_grad_()
            leaves = [value.detach().requires_grad_(value.requires_grad) for value in given]
            if ctx.carry is not None:
                y, moved = ctx.carry(here, probes.transpose(0, 1), *leaves)
                total = (moved * sums.transpose(0, 1)).sum(2).mean(0)
            else:
                y, total = ctx.field(here, *leaves), 0.0
                for v, pull in zip(probes.unbind(1), sums.unbind(1), strict=True):
                    (row,) = torch.autograd.grad(y, here, pull, create_graph=True)
                    total = total + (row * v).sum(1) / probes.shape[1]
        asked = [here, *(leaf for leaf in leaves if leaf.requires_grad), *ctx.parameters]
        found = torch.autograd.grad([y, total], asked, [of_y, of_total], allow_unused=True)
        own, rest = iter(found[: len(found) - len(ctx.parameters)]), found[len(found) - len(ctx.parameters) :]
        of_x = next(own)
        return None, None, None, None, None, of_x, *(next(own) if leaf.requires_grad else None for leaf in leaves), *rest
