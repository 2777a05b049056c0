"""Euler: straight lines of equal length."""

from laminar.flows.solver.solver import Fixed
from laminar.flows.solver.tableau import Tableau


class Euler(Fixed):
    """One slope a step, an error of h."""

    tableau = Tableau(nodes=(0,), stages=((),), weights=(1,), order=1)

    def __init__(self, steps: int = 100, gradients: str = "checkpoint"):
        super().__init__(steps, gradients)
