"""Maximum likelihood: the objective of every flow that the papers train."""

from torch import Tensor

from laminar.flows.flow import Flow
from laminar.flows.space import Context
from laminar.training.objective.objective import Objective


class Likelihood(Objective):
    """log p(x) in nats, ``(B,)``: exact, or its one-sample lower bound where the flow is stochastic."""

    def __call__(self, flow: Flow, x: Tensor, context: Context, step: int) -> Tensor:
        return flow.log_prob(x, context)
