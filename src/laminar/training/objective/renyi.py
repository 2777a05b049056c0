"""The variational Renyi bound (Li, Turner 2016) as a training objective."""

from math import log

from torch import Tensor

from laminar.flows.flow import Flow
from laminar.flows.space import Context
from laminar.refused import Refused
from laminar.training.objective.objective import Objective, refuse_estimates


class Renyi(Objective):
    """1 / (1 - alpha) log 1/K sum_k w_k^(1 - alpha) in nats, ``(B,)``, where E[w] = p(x).

    alpha = 0 is the importance-weighted bound, alpha = 1 (by its limit) the mean of log w, alpha -> -inf the largest
    weight. For 0 <= alpha it is a lower bound of log p(x) in expectation; a negative alpha may exceed it.
    """

    def __init__(self, alpha: float = 0.5, num_samples: int = 8):
        if num_samples < 1:
            raise Refused(f"objective.num_samples={num_samples} leaves nothing to average: give 1 or more")
        self.alpha, self.num_samples = alpha, num_samples

    def check(self, flow: Flow) -> None:
        refuse_estimates(flow, self.num_samples)

    def __call__(self, flow: Flow, x: Tensor, context: Context, step: int) -> Tensor:
        log_weights = flow.log_weights(x, context, self.num_samples)
        if self.alpha == 1:
            return log_weights.mean(0)
        power = 1 - self.alpha
        return ((power * log_weights).logsumexp(0) - log(len(log_weights))) / power
