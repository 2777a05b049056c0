"""Finer: a flow's solvers at a fraction of their errors, for as long as somebody compares."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from laminar.flows.solver.solver import Solver


def solved(module: nn.Module) -> list[nn.Module]:
    """The parts of a module that hold a solver."""
    return [part for part in module.modules() if isinstance(getattr(part, "solver", None), Solver)]


@contextmanager
def finer(module: nn.Module) -> Iterator[None]:
    """Inside, every part with a solver solves by its ``finer()``: what a number moves by is the solver's error in it."""
    before = [(part, part.solver) for part in solved(module)]
    try:
        for part, solver in before:
            part.solver = solver.finer()
        yield
    finally:
        for part, solver in before:
            part.solver = solver
