"""Gradients of a solve that keep little: by its steps, recomputed one at a time, or by a second solve backwards, the adjoint of
Chen, Rubanova, Bettencourt, Duvenaud 2018 (https://arxiv.org/abs/1806.07366)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from laminar.flows.solver.march import Rate, Stages, step
from laminar.flows.solver.tableau import Tableau

March = Callable[..., tuple[Tensor, Tensor]]  # (rate, y, span, given, seen=) -> y at the end, evaluations


@dataclass(frozen=True)
class Problem:
    """What both ways need to know: the equation, the weights that its rate reads, and how it is solved."""

    march: March
    tableau: Tableau
    rate: Rate
    span: tuple[float, float]
    parameters: Sequence[Tensor]
    compact: bool

    def moved(self, h: Tensor) -> Tensor | slice:
        """The rows of a block that took a step; all of them where blocks are to keep their size."""
        return h != 0 if self.compact else slice(None)


class Gathered:
    """Gradients with respect to what a rate reads: each row's of ``given``, and the sums of the parameters'."""

    def __init__(self, given: Sequence[Tensor], parameters: Sequence[Tensor]):
        self.given, self.parameters = given, parameters
        self.rows = [torch.zeros_like(value) if value.requires_grad else None for value in given]
        self.sums = [torch.zeros_like(value) for value in parameters]

    def leaves(self, rows: Tensor) -> list[Tensor]:
        """The given tensors of some rows, cut off from what made them."""
        return [value.detach()[rows].requires_grad_(value.requires_grad) for value in self.given]

    def pull(self, output: Tensor, gradient: Tensor, rows: Tensor, leaves: Sequence[Tensor], y: Tensor) -> Tensor:
        """Carries the gradient of an output back to y, which it gives, and to all else, which it adds up."""
        asked = [leaf for leaf in leaves if leaf.requires_grad]
        found = torch.autograd.grad(output, [y, *asked, *self.parameters], gradient, allow_unused=True)
        own, rest = found[1 : 1 + len(asked)], found[1 + len(asked) :]
        for total, value in zip([total for total in self.rows if total is not None], own, strict=True):
            if value is not None:
                total.index_add_(0, rows, value)
        for total, value in zip(self.sums, rest, strict=True):
            if value is not None:
                total.add_(value)
        return torch.zeros_like(y) if found[0] is None else found[0]


class Checkpointed(torch.autograd.Function):
    """Keeps each step's time, length and y; recomputes one step at a time. The gradient of the steps that were taken."""

    @staticmethod
    def forward(ctx: Any, problem: Problem, count: int, y: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        ctx.problem, ctx.kept = problem, []
        ctx.save_for_backward(*tensors[:count])

        def keep(rows: Tensor, t: Tensor, h: Tensor, stages: Stages) -> None:
            moved = problem.moved(h)
            ctx.kept.append((rows[moved], t[moved], h[moved], stages[0][1][moved]))

        y, evaluations = problem.march(problem.rate, y, problem.span, tensors[:count], seen=keep)
        ctx.mark_non_differentiable(evaluations)
        return y, evaluations

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple:
        problem, gradient = ctx.problem, gradient.clone()
        gathered = Gathered(ctx.saved_tensors, problem.parameters)
        for rows, t, h, y in reversed(ctx.kept):
            leaves, y = gathered.leaves(rows), y.detach().requires_grad_()
            with torch.enable_grad():
                new = step(problem.rate, problem.tableau, t, h, y, leaves)[0]
            gradient[rows] = gathered.pull(new, gradient[rows], rows, leaves, y)
        return None, None, gradient, *gathered.rows, *gathered.sums


class Adjoint(torch.autograd.Function):
    """Keeps the end alone: y and its gradient a are solved backwards, da/dt = -a^T df/dy, and what the gradients of all else
    gain on a step that was taken is added up stage by stage. True to the equation, so to the solver's tolerance, which is
    that of a at a largest entry of 1: a mean over many rows would else be all below it."""

    @staticmethod
    def forward(ctx: Any, problem: Problem, count: int, y: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        ctx.problem = problem
        y, evaluations = problem.march(problem.rate, y, problem.span, tensors[:count])
        ctx.save_for_backward(y, *tensors[:count])
        ctx.mark_non_differentiable(evaluations)
        return y, evaluations

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple:
        problem, (end, *given) = ctx.problem, ctx.saved_tensors
        gathered = Gathered(given, problem.parameters)
        size = gradient.abs().amax(1, keepdim=True).clamp(min=torch.finfo(gradient.dtype).tiny)

        def both(t: Tensor, state: Tensor, *given: Tensor) -> Tensor:
            y, a = state.chunk(2, 1)
            y = y.detach().requires_grad_()
            with torch.enable_grad():
                slope = problem.rate(t, y, *given)
            (pull,) = torch.autograd.grad(slope, y, a, allow_unused=True)
            return torch.cat([slope.detach(), torch.zeros_like(a) if pull is None else -pull], 1)

        def add_up(rows: Tensor, t: Tensor, h: Tensor, stages: Stages) -> None:
            moved = problem.moved(h)
            rows, h = rows[moved], h[moved].unsqueeze(1)
            for weight, (time, state) in zip(problem.tableau.weights, stages, strict=True):
                if weight and len(rows):
                    y, a = state[moved].chunk(2, 1)
                    leaves, y = gathered.leaves(rows), y.detach().requires_grad_()
                    with torch.enable_grad():
                        slope = problem.rate(time[moved], y, *leaves)
                    gathered.pull(slope, (-weight * h).to(a.dtype) * size[rows] * a, rows, leaves, y)

        back = problem.span[1], problem.span[0]
        detached = [value.detach() for value in given]
        state, _ = problem.march(both, torch.cat([end, gradient / size], 1), back, detached, seen=add_up)
        return None, None, size * state.chunk(2, 1)[1], *gathered.rows, *gathered.sums
