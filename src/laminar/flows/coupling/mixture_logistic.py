"""Mixture-of-logistics CDF (Flow++, Ho et al. 2019, https://arxiv.org/abs/1902.00275, section 3.2)."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from laminar.flows.coupling.law import Law
from laminar.flows.numerics import find_root, implicit
from laminar.refused import Refused

MIN_LOG_SCALE = -7.0


class MixtureLogistic(Law):
    """The CDF of a mixture of K logistics, pulled back to the reals by the logit, then an affine map::

        y       = logit(F(x)) exp(tanh a) + b,   F(x) = sum_k pi_k sigmoid(z_k),   z_k = (x - mu_k) / s_k
        log y'  = log F'(x) - log F(x) - log(1 - F(x)) + tanh a
        x       = the root of logit(F(x)) = (y - b) exp(-tanh a), by safeguarded Newton (``numerics.find_root``)

    All of it in log space: F, 1 - F and F' are each a logsumexp. Parameters in the order a, b, K logits of pi, K means mu,
    K log-scales, which count as -7 at least.

    Args:
        components: K.
    """

    def __init__(self, components: int = 32):
        if components < 1:
            raise Refused(f"coupling.components={components}: a mixture needs at least 1 component")
        self.components = components
        self.arity = 2 + 3 * components

    def start(self, generator: torch.Generator) -> Tensor:
        """Means spread over (-1, 1), for equal components would stay equal; one scale, so that the variance is that of a
        standard logistic, whose map is the identity."""
        mean = torch.linspace(-1, 1, self.components + 2)[1:-1]
        log_scale = torch.log1p(-3 / torch.pi**2 * mean.var(correction=0)) / 2
        return torch.cat([torch.zeros(2 + self.components), mean, log_scale.expand(self.components)])

    def __call__(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        a, b, log_weight, mean, log_scale = self._read(params)
        z = (x.unsqueeze(1) - mean) * torch.exp(-log_scale)
        below, above = logsigmoid(z), logsigmoid(-z)
        log_cdf = (log_weight + below).logsumexp(1)
        log_survival = (log_weight + above).logsumexp(1)
        log_density = (log_weight + below + above - log_scale).logsumexp(1)
        return (log_cdf - log_survival) * a.exp() + b, log_density - log_cdf - log_survival + a

    def inverse(self, y: Tensor, params: Tensor) -> Tensor:
        with torch.no_grad():
            x = self._solve(y, params)
        return implicit(x, y, lambda x: self(x, params))

    def _read(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        logits, mean, log_scale = params[:, 2:].chunk(3, 1)
        return params[:, 0].tanh(), params[:, 1], logits.log_softmax(1), mean, log_scale.clamp(min=MIN_LOG_SCALE)

    def _solve(self, y: Tensor, params: Tensor) -> Tensor:
        a, b, log_weight, mean, log_scale = self._read(params)
        target = (y - b) * torch.exp(-a)
        # Mirrored where the target is positive, so that F <= 1/2 at the root and 1 - F needs no sum of its own.
        side = torch.where(target > 0, -1.0, 1.0).to(y.dtype)
        target = -target.abs()
        mean = side.unsqueeze(1) * mean
        scale, rate = log_scale.exp(), torch.exp(-log_scale)
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

        quantiles = mean + scale * target.unsqueeze(1)  # of each component: the mixture's lies between them
        guess = (log_weight.exp() * quantiles).sum(1)
        return side * find_root(logit_cdf, quantiles.amin(1), quantiles.amax(1), guess)
