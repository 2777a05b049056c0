"""Bernoulli: binary values."""

from torch import Tensor
from torch.nn.functional import logsigmoid

from laminar.flows.observation.observation import Integers
from laminar.flows.space import Space
from laminar.refused import Refused


class Bernoulli(Integers):
    """P(x = 1) = sigmoid(a)."""

    arity = 1

    def __init__(self, space: Space):
        super().__init__(space)
        if self.levels != 2:
            raise Refused(
                f"observation=bernoulli scores 0 and 1, and these data have {self.levels} levels: take binary data "
                "(data=mnist_binary), or observation=discretized_logistic"
            )

    def log_probs(self, x: Tensor, params: Tensor) -> Tensor:
        return logsigmoid((2 * x - 1) * params[:, 0])

    def quantile(self, u: Tensor, params: Tensor) -> Tensor:
        return (u >= (-params[:, 0]).sigmoid()).to(u.dtype)

    def mean(self, params: Tensor) -> Tensor:
        return params[:, 0].sigmoid()
