"""The fixed point of a contraction, by iteration, and its gradient by another one (implicit differentiation, as in deep
equilibrium models, https://arxiv.org/abs/1909.01377)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from laminar.refused import Refused

ROUNDING = 256  # units of rounding within which changes may stop to shrink


class NoContraction(Refused):
    """A map whose iteration does not converge. The message says how it went, and what may help."""


@torch.compiler.disable
def fixed_point(f: Callable[[Tensor], Tensor], x: Tensor, size: float = 0.0, max_steps: int = 2000) -> Tensor:
    """x = f(x), from a first guess ``(B, D)``, each row until its change is rounding: no longer smaller than the last.

    ``size`` is that of numbers inside f whose rounding counts, however small x.

    Raises:
        NoContraction: where a change grows that is more than rounding, as it cannot for a map of Lipschitz constant below 1
            (in the Euclidean norm), or ``max_steps`` do not suffice.
    """
    eps, start = torch.finfo(x.dtype).eps, size + x.norm(dim=1)
    live, before = torch.ones(len(x), dtype=torch.bool, device=x.device), torch.full_like(start, torch.inf)
    for _ in range(max_steps):
        new = f(x)
        change, unit = (new - x).norm(dim=1), eps * (start + new.norm(dim=1))
        small, shrinks = change <= ROUNDING * unit, change < before
        wild = live & ~(small | shrinks)
        done = (change <= unit) | (small & ~shrinks)
        x = torch.where(live.unsqueeze(1), new, x)
        live, before = live & ~done, change
        failed, left = torch.stack([wild.sum(), live.sum()]).tolist()
        if failed:
            row = int(wild.nonzero()[0])
            raise NoContraction(
                f"a residual layer cannot be inverted: its step x <- z - g(x) does not contract (row {row}), so the Lipschitz "
                "constant of g is not below 1: refresh() the flow after its weights were changed, or take a smaller "
                "net.coefficient"
            )
        if not left:
            return x
    raise NoContraction(
        f"a residual layer was not inverted within {max_steps} steps: {left} rows still move; a smaller net.coefficient "
        "converges faster"
    )


class ResidualInverse(torch.autograd.Function):
    """x with x + field(x, *given) = z. Backward solves w (1 + J) = dx likewise: z receives w, all that field reads -w."""

    @staticmethod
    def forward(ctx: Any, field: Callable[..., Tensor], count: int, z: Tensor, *tensors: Tensor) -> Tensor:
        given = [value.detach() for value in tensors[:count]]
        x = fixed_point(lambda x: z - field(x, *given), z, size=1.0)
        ctx.field, ctx.parameters = field, tensors[count:]
        ctx.save_for_backward(x, *tensors[:count])
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_x: Tensor) -> tuple:
        x, *given = ctx.saved_tensors
        with torch.enable_grad():
            here = x.detach().requires_grad_()
            leaves = [value.detach().requires_grad_(value.requires_grad) for value in given]
            y = ctx.field(here, *leaves)
        w = fixed_point(lambda w: of_x - torch.autograd.grad(y, here, w, retain_graph=True)[0], of_x)
        asked = [*(leaf for leaf in leaves if leaf.requires_grad), *ctx.parameters]
        found = torch.autograd.grad(y, asked, -w, allow_unused=True) if asked else ()
        own = iter(found)
        of_given = [next(own) if leaf.requires_grad else None for leaf in leaves]
        return None, None, w, *of_given, *own
