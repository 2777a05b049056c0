"""Solver: a method for ordinary differential equations, and how its gradients are found."""

from collections.abc import Sequence
from copy import copy
from functools import partial

import torch
from torch import Tensor

from laminar.flows.solver.gradients import Adjoint, Checkpointed, Problem
from laminar.flows.solver.march import Rate, march
from laminar.flows.solver.tableau import Tableau
from laminar.refused import Refused

GRADIENTS = ("checkpoint", "direct", "adjoint")


class Solver:
    """dy/dt = rate(t, y, *given) over a span of time, for a batch of rows that are solved independently of each other.

    Args:
        gradients: ``checkpoint`` recomputes step after step, so that memory does not grow with the cost of a rate; ``direct``
            keeps all, the fastest and largest; ``adjoint`` solves a second equation backwards.
    """

    tableau: Tableau
    compact = False

    def __init__(self, gradients: str = "checkpoint"):
        if gradients not in GRADIENTS:
            raise Refused(f"solver.gradients is one of {', '.join(GRADIENTS)}, not {gradients!r}")
        if gradients == "adjoint" and self.tableau.error is None:
            raise Refused(
                "solver.gradients=adjoint needs a solver that controls its error, for in fixed steps the way back is another "
                "way: choose solver=dopri5, or solver.gradients=checkpoint"
            )
        self.gradients = gradients

    def march(self, training: bool):
        """The stepping loop with this solver's options, ``(rate, y, span, given, seen=)``."""
        raise NotImplementedError

    def finer(self) -> "Solver":
        """This solver with errors far below its own: what shows how much of a number is the solver's."""
        raise NotImplementedError

    @torch.compiler.disable
    def __call__(
        self,
        rate: Rate,
        y: Tensor,
        span: tuple[float, float],
        given: Sequence[Tensor] = (),
        parameters: Sequence[Tensor] = (),
        name: str = "",
        training: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """y at the end of the span, and how often each row asked for its rate ``(B,)``.

        Args:
            rate: ``(t (B,), y (B, C), *given)`` -> dy/dt ``(B, C)``.
            given: tensors ``(B, ...)`` that the rate reads; they receive gradients.
            parameters: leaves that the rate reads, those that are to receive gradients.
            name: whose equation it is, for an error to tell.
            training: whether a coarser solve will do.

        Raises:
            Unsolved: where the equation cannot be solved.
        """
        tensors, march = [y, *given, *parameters], partial(self.march(training), name=name)
        if not torch.is_grad_enabled() or not any(tensor.requires_grad for tensor in tensors):
            with torch.no_grad():
                return march(rate, y, span, given)
        if self.gradients == "direct":
            return march(rate, y, span, given)
        parameters = [parameter for parameter in parameters if parameter.requires_grad]
        problem = Problem(march, self.tableau, rate, span, parameters, self.compact)
        method = Adjoint if self.gradients == "adjoint" else Checkpointed
        return method.apply(problem, len(given), y, *given, *parameters)


class Adaptive(Solver):
    """Steps as long as the error allows, each row's own: see ``march``.

    Args:
        rtol, atol: of a step's error, relative and absolute; what is below the precision of the numbers counts as that.
        max_steps: of a row before it is given up, those that were refused included.
        compact: whether rows that have arrived leave the batch; not for compiled dynamics, which would compile for each size.
        train_factor: how many times the tolerance may be in training, whose steps want speed where scores want truth.
    """

    def __init__(
        self,
        rtol: float = 1e-5,
        atol: float = 1e-5,
        max_steps: int = 1000,
        gradients: str = "checkpoint",
        compact: bool = True,
        train_factor: float = 1.0,
    ):
        super().__init__(gradients)
        if min(rtol, atol) <= 0:
            raise Refused(f"solver.rtol={rtol} and solver.atol={atol} must be above 0: no finite number of steps is exact")
        if max_steps < 1:
            raise Refused(f"solver.max_steps={max_steps} leaves no step to take: give 1 or more")
        if not train_factor > 0:
            raise Refused(f"solver.train_factor={train_factor} is what rtol and atol are multiplied by in training: above 0")
        self.tolerance, self.max_steps, self.compact, self.train_factor = (atol, rtol), max_steps, compact, train_factor

    def finer(self) -> "Adaptive":
        """At a hundredth of the tolerance."""
        finer = copy(self)
        finer.tolerance, finer.max_steps = tuple(price / 100 for price in self.tolerance), 10 * self.max_steps
        return finer

    def march(self, training: bool):
        return partial(
            march,
            tableau=self.tableau,
            first=0.1,
            max_steps=self.max_steps,
            tolerance=tuple(price * self.train_factor for price in self.tolerance) if training else self.tolerance,
            compact=self.compact,
        )


class Fixed(Solver):
    """``steps`` equal steps, whatever their error."""

    def __init__(self, steps: int, gradients: str = "checkpoint"):
        super().__init__(gradients)
        if steps < 1:
            raise Refused(f"solver.steps={steps} goes nowhere: give 1 or more")
        self.steps = steps

    def finer(self) -> "Fixed":
        """In four times as many steps."""
        finer = copy(self)
        finer.steps = 4 * self.steps
        return finer

    def march(self, training: bool):
        return partial(
            march, tableau=self.tableau, first=1 / self.steps, max_steps=self.steps, tolerance=(1.0, 1.0), compact=False
        )
