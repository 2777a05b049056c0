"""Mixture-of-logistics CDF (Flow++, Ho et al. 2019, https://arxiv.org/abs/1902.00275, section 3.2)."""

from typing import Any

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

    F, 1 - F and F' are sums as they stand, half the cost of sums of logarithms and as accurate, but for values so far in a tail
    that float numbers end there. Parameters and options: see ``Mixture``.
    """

    precision = 3 / torch.pi**2

    def __init__(self, components: int = 32, onto: str = "reals"):
        super().__init__(components, onto)

    @classmethod
    def logs(cls, x: Tensor, log_weight: Tensor, mean: Tensor, log_rate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if torch.compiler.is_compiling() or x.device.type != "cpu":  # whether a value is rare is asked of a CPU alone
            return cls._in_logs(x, log_weight, mean, log_rate)
        weight, rate = log_weight.exp(), log_rate.exp()
        z = (x.unsqueeze(1) - mean) * rate
        below, above = _Sides.apply(z)
        below = weight * below
        sums = below.sum(1), (weight * above).sum(1), (below * above * rate).sum(1)
        least = torch.finfo(x.dtype).tiny ** 0.75
        rare = torch.stack(sums).amin(0) < least
        logs = tuple(total.clamp(min=least).log() for total in sums)
        if not rare.any():
            return logs
        theirs = (planes.movedim(1, -1)[rare] for planes in (log_weight, mean, log_rate))
        exact = cls._in_logs(x[rare], *theirs)
        return tuple(torch.index_put(log, (rare,), own) for log, own in zip(logs, exact, strict=True))

    @staticmethod
    def _in_logs(x: Tensor, log_weight: Tensor, mean: Tensor, log_rate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same by sums of logarithms, for any tail."""
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
            larger = torch.sigmoid(z.abs())
            log_term = log_weight + z.clamp(max=0)  # log(pi sigmoid(z)), but for the factor larger
            peak = log_term.amax(1)
            term = torch.exp(log_term - peak.unsqueeze(1)) * larger
            total = term.sum(1)
            log_cdf = (peak + total.log()).clamp(max=-torch.finfo(x.dtype).eps)
            survival = -torch.expm1(log_cdf)
            slope = (term * torch.sigmoid(-z) * rate).sum(1) / (total * survival)
            return (log_cdf - survival.log() - target) / unit, slope / unit

        guess = (log_weight.exp() * quantiles).sum(1)
        return side * find_root(logit_cdf, quantiles.amin(1), quantiles.amax(1), guess)

    @staticmethod
    def quantile(u: Tensor) -> Tensor:
        return torch.logit(u)


class _Sides(torch.autograd.Function):
    """sigmoid(z) and sigmoid(-z), whose slopes are their product: by 1 - sigmoid(z), as torch has it, the smaller is lost."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> tuple[Tensor, Tensor]:
        below, above = torch.sigmoid(z), torch.sigmoid(-z)
        ctx.save_for_backward(below, above)
        return below, above

    @staticmethod
    def backward(ctx: Any, of_below: Tensor, of_above: Tensor) -> Tensor:
        below, above = ctx.saved_tensors
        return (of_below - of_above) * below * above
