"""A learned mixture prior."""

from math import log, pi

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from laminar.flows import noise
from laminar.flows.numerics import logistic_quantile, sum_event
from laminar.flows.prior.prior import Prior
from laminar.flows.space import Space
from laminar.refused import Refused


class Mixture(Prior):
    """K learned components, Gaussian or logistic, each a product over dimensions with means m and scales s::

        joint            log p(z) = log sum_k pi_k prod_i p((z_i - m_ki) / s_ki) / s_ki
        per dimension    log p(z) = sum_i log sum_k pi_ki p((z_i - m_ki) / s_ki) / s_ki

    Starts with equal weights and means apart, for equal components would stay equal, at about unit variance in all.
    Temperature multiplies the components' scales; which component is drawn stays as likely as it is.

    Args:
        components: K.
        family: ``gaussian`` or ``logistic``.
        joint: whether the dimensions of an event share their component.
    """

    def __init__(self, space: Space, components: int = 10, family: str = "gaussian", joint: bool = True):
        super().__init__(space)
        if components < 1:
            raise Refused(f"prior.components={components}: a mixture needs at least 1 component")
        if family not in ("gaussian", "logistic"):
            raise Refused(f"prior.family is gaussian or logistic, not {family!r}")
        self.family, self.joint = family, joint
        event = space.event
        if joint:
            mean = 0.5 * torch.randn(components, *event)
        else:
            spread = torch.linspace(-1, 1, components + 2)[1:-1]
            mean = spread.view(-1, *[1] * len(event)).expand(-1, *event).clone()
        self.logits = nn.Parameter(torch.zeros(components, *([1] * len(event) if joint else event)))
        self.mean = nn.Parameter(mean)
        self.log_scale = nn.Parameter(torch.full((components, *event), log(0.8 if family == "gaussian" else 0.8 * 3**0.5 / pi)))

    def log_prob(self, z: Tensor) -> Tensor:
        unit = (z.unsqueeze(1) - self.mean) * torch.exp(-self.log_scale)
        if self.family == "gaussian":
            log_density = -0.5 * (unit.square() + log(2 * pi)) - self.log_scale
        else:
            log_density = -unit.abs() - 2 * softplus(-unit.abs()) - self.log_scale
        log_weight = self.logits.log_softmax(0)
        if self.joint:
            return (log_weight.flatten() + log_density.flatten(2).sum(2)).logsumexp(1)
        return sum_event((log_weight + log_density).logsumexp(1))

    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        like = self.like(n)
        level = noise.uniform(like.flatten(1)[:, :1].view(n, *[1] * (like.dim() - 1)) if self.joint else like)
        # The component whose share of [0, 1) the level falls into.
        ends = self.logits.softmax(0).cumsum(0)[:-1]
        component = (level.unsqueeze(1) >= ends).sum(1, keepdim=True).expand(n, 1, *self.space.event)
        mean, log_scale = (p.expand(n, *p.shape).gather(1, component).squeeze(1) for p in (self.mean, self.log_scale))
        unit = noise.normal(like) if self.family == "gaussian" else logistic_quantile(noise.uniform(like))
        return mean + temperature * log_scale.exp() * unit
