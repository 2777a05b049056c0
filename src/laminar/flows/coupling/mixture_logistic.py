"""Mixture-of-logistics CDF (Flow++, Ho et al. 2019, https://arxiv.org/abs/1902.00275, section 3.2)."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from laminar.flows.coupling.mixture import Mixture, mirrored
from laminar.flows.numerics import find_root


class MixtureLogistic(Mixture):
    """The CDF of a mixture of K logistics, pulled back to the reals by the logit, then an affine map; or the CDF itself::

        y       = logit(F(x)) exp(tanh a) + b,   F(x) = sum_k pi_k sigmoid(z_k),   z_k = (x - mu_k) / s_k
        log y'  = log F'(x) - log F(x) - log(1 - F(x)) + tanh a
        x       = the root of logit(F(x)) = (y - b) exp(-tanh a), by safeguarded Newton (``numerics.find_root``)

    F, 1 - F and F' are each a logsumexp. Parameters and options: see ``Mixture``.
    """

    precision = 3 / torch.pi**2

    def __init__(self, components: int = 32, onto: str = "reals"):
        super().__init__(components, onto)

    @staticmethod
    def logs(x: Tensor, log_weight: Tensor, mean: Tensor, log_rate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = (x.unsqueeze(1) - mean) * torch.exp(log_rate)
        below, above = logsigmoid(z), logsigmoid(-z)
        log_cdf = (log_weight + below).logsumexp(1)
        log_survival = (log_weight + above).logsumexp(1)
        log_density = (log_weight + below + above + log_rate).logsumexp(1)
        return log_cdf, log_survival, log_density

    @classmethod
    def pull(cls, x: Tensor, log_weight: Tensor, mean: Tensor, log_rate: Tensor) -> tuple[Tensor, Tensor]:
        log_cdf, log_survival, log_density = cls.logs(x, log_weight, mean, log_rate)
        return log_cdf - log_survival, log_density - log_cdf - log_survival

    @staticmethod
    def solve(q: Tensor, log_weight: Tensor, mean: Tensor, log_rate: Tensor) -> Tensor:
        side, target, mean, quantiles = mirrored(q, mean, log_rate)
        rate = log_rate.exp()
        unit = 1 - target  # values are compared with 1, whatever the target

        def logit_cdf(x: Tensor) -> tuple[Tensor, Tensor]:
            z = (x.unsqueeze(1) - mean) * rate
            small = torch.exp(-z.abs())
            larger = 1 / (1 + small)  # sigmoid(|z|)
            log_term = log_weight + z.clamp(max=0)  # log(pi sigmoid(z)), but for the factor larger
            peak = log_term.amax(1)
            term = torch.exp(log_term - peak.unsqueeze(1)) * larger
            total = term.sum(1)
            log_cdf = (peak + total.log()).clamp(max=-torch.finfo(x.dtype).eps)
            survival = -torch.expm1(log_cdf)
            slope = (term * torch.where(z > 0, small, 1.0) * larger * rate).sum(1) / (total * survival)
            return (log_cdf - survival.log() - target) / unit, slope / unit

        guess = (log_weight.exp() * quantiles).sum(1)
        return side * find_root(logit_cdf, quantiles.amin(1), quantiles.amax(1), guess)

    @staticmethod
    def quantile(u: Tensor) -> Tensor:
        return torch.logit(u)
