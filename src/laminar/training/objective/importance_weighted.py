"""The importance-weighted bound (Burda, Grosse, Salakhutdinov 2016) as a training objective."""

from torch import Tensor

from laminar.flows.flow import Flow
from laminar.flows.space import Context
from laminar.refused import Refused
from laminar.training.objective.objective import Objective, refuse_estimates


class ImportanceWeighted(Objective):
    """log 1/K sum_k w_k in nats, ``(B,)``, where E[w] = p(x). K = 1 is the likelihood bound; it tightens with K."""

    def __init__(self, num_samples: int = 8):
        if num_samples < 1:
            raise Refused(f"objective.num_samples={num_samples} leaves nothing to average: give 1 or more")
        self.num_samples = num_samples

    def check(self, flow: Flow) -> None:
        refuse_estimates(flow, self.num_samples)

    def __call__(self, flow: Flow, x: Tensor, context: Context, step: int) -> Tensor:
        return flow.log_prob(x, context, num_samples=self.num_samples)
