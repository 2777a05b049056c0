"""Deep sigmoidal law (DSF; Neural Autoregressive Flows, Huang et al. 2018, https://arxiv.org/abs/1804.00779)."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from laminar.flows.coupling.law import Law
from laminar.flows.coupling.mixture import spread
from laminar.flows.coupling.mixture_logistic import MixtureLogistic
from laminar.flows.numerics import implicit
from laminar.refused import Refused

MIN_RATE = 1e-6


class DeepSigmoid(Law):
    """y = logit(sum_k w_k sigmoid(a_k x + b_k)), a_k > 0: a mixture of logistics with means -b_k / a_k and scales 1 / a_k.

    It shares the log-space arithmetic of ``MixtureLogistic``, both ways. The paper's code clips the sum, which bounds y and
    loses the mass outside; in log space there is nothing to clip. Parameters in the order K of a (behind a softplus), K of b,
    K logits of w.

    Args:
        components: K.
    """

    closed = False

    def __init__(self, components: int = 16):
        if components < 1:
            raise Refused(f"coupling.components={components}: a sum of sigmoids needs at least 1 component")
        self.components = components
        self.arity = 3 * components

    def start(self, generator: torch.Generator) -> Tensor:
        """Nearly the identity, its components apart."""
        return torch.cat([*sigmoids(self.components), torch.zeros(self.components)])

    def __call__(self, x: Tensor, params: Tensor, shared: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return MixtureLogistic.pull(x, *self._components(params))

    def inverse(self, y: Tensor, params: Tensor, shared: Tensor | None = None) -> Tensor:
        components = self._components(params)
        with torch.no_grad():
            x = MixtureLogistic.solve(y, *components)
        return implicit(x, y, lambda x: MixtureLogistic.pull(x, *components))

    def _components(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, b, logits = params.chunk(3, 1)
        rate = softplus(a) + MIN_RATE
        return logits.log_softmax(1), -b / rate, rate.log()


def sigmoids(count: int) -> tuple[Tensor, Tensor]:
    """Starting a (before its softplus) and b of sigmoids that lie apart, while their mean is nearly the standard one."""
    mean, log_scale = spread(count, MixtureLogistic.precision)
    rate = torch.exp(-log_scale)
    return torch.log(torch.expm1(rate - MIN_RATE)), -rate * mean
