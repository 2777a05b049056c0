"""Dopri5: the pair of orders 5 and 4 of Dormand and Prince 1980 (Journal of Computational and Applied Mathematics 6)."""

from laminar.flows.solver.solver import Adaptive
from laminar.flows.solver.tableau import Tableau


class Dopri5(Adaptive):
    """Six slopes a step; the seventh, at the new point, serves the error and begins the next step."""

    tableau = Tableau(
        nodes=(0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1),
        stages=(
            (),
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        ),
        weights=(35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        error=(71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
        order=5,
    )
