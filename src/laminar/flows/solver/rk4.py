"""RK4: the classical method of Kutta 1901 in steps of equal length."""

from laminar.flows.solver.solver import Fixed
from laminar.flows.solver.tableau import Tableau


class RK4(Fixed):
    """Four slopes a step, an error of h^4."""

    tableau = Tableau(
        nodes=(0, 1 / 2, 1 / 2, 1),
        stages=((), (1 / 2,), (0, 1 / 2), (0, 0, 1)),
        weights=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
        order=4,
    )

    def __init__(self, steps: int = 20, gradients: str = "checkpoint"):
        super().__init__(steps, gradients)
