"""Mixture: what the laws share that are CDFs of a mixture, pulled back to the reals or left in the unit interval."""

import torch
from torch import Tensor

from laminar.flows.coupling.law import Law
from laminar.flows.numerics import implicit, inside
from laminar.flows.space import Space
from laminar.refused import Refused

MIN_LOG_SCALE = -7.0


class Mixture(Law):
    """The CDF F of a mixture of K components with means mu_k, scales s_k and weights pi_k, each of a CDF G that is symmetric::

        F(x) = sum_k pi_k G((x - mu_k) / s_k)
        y    = G^-1(F(x)) exp(tanh a) + b     onto the reals: a single component of mean 0 and scale 1 is the identity
        y    = F(x)                           onto the unit interval

    x is the root of G^-1(F(x)) = q, with q = (y - b) exp(-tanh a) or G^-1(y). All of it in log space, so that nothing is lost
    in the tails. On the unit interval y stays in [tiny, 1 - eps/2]; the log-slope is that of F, also where y went no further.

    Parameters in the order a, b (onto the reals alone), K logits of pi, K means mu, K log-scales, which count as -7 at least.
    A subclass is a family G.

    Args:
        components: K.
        onto: ``reals`` or ``unit``.

    Attributes:
        precision: 1 / variance of G.
    """

    precision: float
    closed = False

    def __init__(self, components: int, onto: str):
        if components < 1:
            raise Refused(f"coupling.components={components}: a mixture needs at least 1 component")
        if onto not in ("reals", "unit"):
            raise Refused(f"coupling.onto is reals or unit, not {onto!r}")
        self.components = components
        self.unit = onto == "unit"
        self.arity = 3 * components + (0 if self.unit else 2)

    def onto(self, space: Space) -> Space:
        return space.within(1.0 if self.unit else None)

    def start(self, generator: torch.Generator) -> Tensor:
        """Means spread over (-1, 1), for equal components would stay equal; one scale, so that the variance is that of G:
        nearly the identity, or G itself."""
        mean, log_scale = spread(self.components, self.precision)
        return torch.cat([torch.zeros(self.arity - 2 * self.components), mean, log_scale])

    def __call__(self, x: Tensor, params: Tensor, shared: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self.unit:
            log_cdf, log_survival, log_density = self.logs(x, *self._components(params))
            y = torch.where(log_cdf < log_survival, log_cdf.exp(), 1 - log_survival.exp())
            return inside(y), log_density
        a, b = params[:, 0].tanh(), params[:, 1]
        q, log_slope = self.pull(x, *self._components(params))
        return q * a.exp() + b, log_slope + a

    def inverse(self, y: Tensor, params: Tensor, shared: Tensor | None = None) -> Tensor:
        components = self._components(params)
        q = self.quantile(inside(y)) if self.unit else (y - params[:, 1]) * torch.exp(-params[:, 0].tanh())
        with torch.no_grad():
            x = self.solve(q, *components)
        return implicit(x, q, lambda x: self.pull(x, *components))

    def _components(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log pi, mu and log(1/s), each ``(B, K, *event)``: what the methods below read."""
        logits, mean, log_scale = params[:, -3 * self.components :].chunk(3, 1)
        return logits.log_softmax(1), mean, -log_scale.clamp(min=MIN_LOG_SCALE)

    @staticmethod
    def logs(x: Tensor, log_weight: Tensor, mean: Tensor, log_rate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log F(x), log(1 - F(x)) and log F'(x)."""
        raise NotImplementedError

    @staticmethod
    def pull(x: Tensor, log_weight: Tensor, mean: Tensor, log_rate: Tensor) -> tuple[Tensor, Tensor]:
        """q = G^-1(F(x)) and log dq/dx."""
        raise NotImplementedError

    @staticmethod
    def solve(q: Tensor, log_weight: Tensor, mean: Tensor, log_rate: Tensor) -> Tensor:
        """x with G^-1(F(x)) = q. No gradient."""
        raise NotImplementedError

    @staticmethod
    def quantile(u: Tensor) -> Tensor:
        """G^-1(u)."""
        raise NotImplementedError


def spread(components: int, precision: float) -> tuple[Tensor, Tensor]:
    """Means apart in (-1, 1), and the log-scale with which a mixture of that many equal parts has variance 1 / precision."""
    mean = torch.linspace(-1, 1, components + 2)[1:-1]
    log_scale = torch.log1p(-precision * mean.var(correction=0)) / 2
    return mean, log_scale.expand(components)


def mirrored(q: Tensor, mean: Tensor, log_rate: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where q is positive, the problem seen in a mirror, so that F <= 1/2 at its root and 1 - F needs no sum of its own.

    Gives the side, q and mean in the mirror, and each component's own root: that of the mixture lies between them.
    """
    side = torch.where(q > 0, -1.0, 1.0).to(q.dtype)
    q, mean = -q.abs(), side.unsqueeze(1) * mean
    return side, q, mean, mean + torch.exp(-log_rate) * q.unsqueeze(1)
