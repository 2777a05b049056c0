"""Mixture-of-Gaussians CDF: the conditional of the CDF flows in the lectures, and MAF-MoG's under a uniform prior."""

from math import log, pi, sqrt

import torch
from torch import Tensor
from torch.special import erfcx

from laminar.flows.coupling.mixture import Mixture, mirrored
from laminar.flows.numerics import find_root, implicit

LOG_ROOT = log(2 * pi) / 2
LOG_HAZARD = log(2 / pi) / 2  # in the tail phi(z) / Phi(z) = sqrt(2 / pi) / erfcx(|z| / sqrt 2)


class MixtureGaussian(Mixture):
    """The CDF of a mixture of K Gaussians, pulled back to the reals by the normal quantile, then an affine map; or the CDF::

        y       = q exp(tanh a) + b,   q = Phi^-1(F(x)),   F(x) = sum_k pi_k Phi(z_k),   z_k = (x - mu_k) / s_k
        log y'  = log F'(x) - log phi(q) + tanh a
        x       = the root of F(x) = Phi((y - b) exp(-tanh a)), by safeguarded Newton (``numerics.find_root``)

    Both logs in log y' are taken relative to the smaller of F and 1 - F: apart, each would drown in z^2 / 2.
    Parameters and options: see ``Mixture``.
    """

    precision = 1.0

    def __init__(self, components: int = 10, onto: str = "reals"):
        super().__init__(components, onto)

    @staticmethod
    def logs(x: Tensor, log_weight: Tensor, mean: Tensor, log_rate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = (x.unsqueeze(1) - mean) * torch.exp(log_rate)
        right, _, tail, body = halves(z)
        log_cdf = (log_weight + torch.where(right, body, tail)).logsumexp(1)
        log_survival = (log_weight + torch.where(right, tail, body)).logsumexp(1)
        log_density = (log_weight + log_rate - (z.square() / 2 + LOG_ROOT)).logsumexp(1)
        return log_cdf, log_survival, log_density

    @staticmethod
    def pull(x: Tensor, log_weight: Tensor, mean: Tensor, log_rate: Tensor) -> tuple[Tensor, Tensor]:
        z = (x.unsqueeze(1) - mean) * torch.exp(log_rate)
        right, scaled, tail, body = halves(z)
        below, above = log_weight + torch.where(right, body, tail), log_weight + torch.where(right, tail, body)
        log_cdf, log_survival = below.logsumexp(1), above.logsumexp(1)
        left = log_cdf < log_survival
        q = log_quantile(torch.where(left, log_cdf, log_survival))
        # Each component's phi / Phi on the smaller side, weighted by its share of that side.
        side = left.unsqueeze(1)
        share = torch.where(side, below, above).log_softmax(1)
        log_hazard = torch.where(side == right, -z.square() / 2 - LOG_ROOT - body, LOG_HAZARD - scaled)
        return torch.where(left, q, -q), (share + log_rate + log_hazard).logsumexp(1) - (LOG_HAZARD - halves(q)[1])

    @staticmethod
    def solve(q: Tensor, log_weight: Tensor, mean: Tensor, log_rate: Tensor) -> Tensor:
        side, q, mean, quantiles = mirrored(q, mean, log_rate)
        rate = log_rate.exp()
        target = halves(q)[2]
        unit = 1 - target  # values are compared with 1, whatever the target

        def log_cdf(x: Tensor) -> tuple[Tensor, Tensor]:
            z = (x.unsqueeze(1) - mean) * rate
            right, scaled, tail, body = halves(z)
            log_term = log_weight + torch.where(right, body, tail)
            total = log_term.logsumexp(1)
            # Of each term phi / Phi, which is 1 / erfcx but for a constant in the tail.
            log_hazard = torch.where(right, -z.square() / 2 - LOG_ROOT - body, LOG_HAZARD - scaled)
            slope = (torch.exp(log_term - total.unsqueeze(1) + log_hazard) * rate).sum(1)
            return (total - target) / unit, slope / unit

        guess = (log_weight.exp() * quantiles).sum(1)
        return side * find_root(log_cdf, quantiles.amin(1), quantiles.amax(1), guess)

    @staticmethod
    def quantile(u: Tensor) -> Tensor:
        return torch.special.ndtri(u)


def halves(z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Whether z > 0, log erfcx(|z| / sqrt 2), and the logs of Phi(-|z|) and of Phi(|z|)."""
    right = z > 0
    size = torch.where(right, z, -z)  # |z|, but with a slope at 0
    scaled = erfcx(size * sqrt(0.5)).log()
    tail = scaled - (size.square() / 2 + log(2))
    return right, scaled, tail, torch.log1p(-tail.exp())


def log_quantile(log_p: Tensor) -> Tensor:
    """Phi^-1(p) of log p, for p up to 1/2: q <= 0, accurate however small p is."""

    def log_cdf(q: Tensor) -> tuple[Tensor, Tensor]:
        _, scaled, tail, _ = halves(q)
        return tail, LOG_HAZARD - scaled

    with torch.no_grad():
        # Beyond e^-50 by the tail's first terms, which are right to 3e-3 there, and Newton's method on the concave log Phi.
        r = (-2 * log_p - 2 * LOG_ROOT).clamp(min=4)
        far = -(r - r.log()).sqrt()
        for _ in range(2):
            value, log_slope = log_cdf(far)
            far = far - (value - log_p) * torch.exp(-log_slope)
        q = torch.where(log_p > -50, torch.special.ndtri(log_p.exp()), far)
    return implicit(q, log_p, log_cdf)
