"""RNODE: continuous flows that are easy to solve (Finlay, Jacobsen, Nurbekyan, Oberman 2020,
https://arxiv.org/abs/2002.02798)."""

from torch import Tensor

from laminar.flows.flow import Flow
from laminar.flows.layer.continuous import Continuous, regularising
from laminar.flows.space import Context
from laminar.refused import Refused
from laminar.training.objective.objective import Objective


class RNODE(Objective):
    """log p(x) - kinetic E(x) - jacobian N(x) in nats, ``(B,)``: no likelihood, and less than one.

    E is the integral of |f|^2 and N that of |df/dx|^2 (Frobenius's; an estimate where the trace is) along the ways of all
    continuous layers, sums over the dimensions as log p is. They are columns of the same solve, noted as ``kinetic`` and
    ``jacobian``.

    Args:
        kinetic: the price of E; transport along straight lines has the least.
        jacobian: the price of N.
    """

    unit = "regularised"

    def __init__(self, kinetic: float = 0.01, jacobian: float = 0.01):
        for option, number in (("kinetic", kinetic), ("jacobian", jacobian)):
            if number < 0:
                raise Refused(f"objective.{option}={number} would pay for dynamics that are hard to solve: take 0 or more")
        self.kinetic, self.jacobian = kinetic, jacobian

    def check(self, flow: Flow) -> None:
        if not any(isinstance(part, Continuous) for part in flow.modules()):
            raise Refused(
                "objective=rnode holds the dynamics of continuous layers down, and this flow has none: flow=ffjord has"
            )

    def __call__(self, flow: Flow, x: Tensor, context: Context, step: int) -> Tensor:
        with regularising() as energies:
            value = flow.log_prob(x, context)
        for kinetic, jacobian in energies:
            value = value - self.kinetic * kinetic - self.jacobian * jacobian
        return value
