"""Latent: what variational autoencoders of every shape have in common."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from laminar.flows import ledger
from laminar.flows.observation.observation import Observation
from laminar.flows.space import Context, Space
from laminar.flows.transform import Transform


class Latent(Transform):
    """z ~ q(z | x), reals ``(B, D)``; contribution log p(x | z) - log q(z | x), in nats of the stored values::

        log p(x) >= E_q [ log p(x | z) + log p(z) - log q(z | x) ],   and back: x ~ p(x | z)

    What comes behind this stop is p(z): nothing but the flow's prior, or any bijection before it. Integers go straight in.

    Args:
        size: D, values of z.
        observation: recipe ``(space)`` of p(x | parameters). Parameters that it shares among all values are learned here.

    Attributes:
        maps: feature maps of a group, the smallest part of z with a KL of its own. A value of a vector is a map of one
            position, and a vector is one group: a posterior that is a flow of it has no smaller parts.
    """

    stochastic = True
    invertible = False

    def __init__(self, space: Space, size: int, observation: Callable[[Space], Observation]):
        super().__init__(space, Space((size,), context=space.context))
        self.observation = observation(space)
        shared = torch.full((self.observation.shared,), self.observation.start)
        self.shared = nn.Parameter(shared) if len(shared) else None
        self.maps = size
        self.register_buffer("anchor", torch.zeros(()), persistent=False)  # carries the flow's precision
        self.reach = 1 if space.levels is None else max(space.levels - 1, 1)
        self.middle = 0.0 if space.levels is None else 0.5

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        z, log_p, log_q = self.terms(x, context)
        ledger.note("distortion", -log_p)
        return z, log_p - log_q

    def terms(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor, Tensor]:
        """z ~ q(z | x) with log p(x | z) and log q(z | x), both ``(B,)``."""
        z, log_p, log_q = self.terms_by_group(x, context)
        return z, log_p, log_q.sum(1)

    def terms_by_group(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor, Tensor]:
        """The same with the part of log q(z | x) that belongs to each group, ``(B, G)``."""
        raise NotImplementedError

    def mean(self, z: Tensor, context: Context = None) -> Tensor:
        """E[x | z], ``(B, *event)``, which need not be a value that occurs."""
        raise NotImplementedError

    def by_group(self, values: Tensor) -> Tensor:
        """The sum of values of each z_i over every group: ``(B, D) -> (B, G)``."""
        return values.sum(1, keepdim=True)

    def _seen(self, x: Tensor) -> Tensor:
        """Values as nets see them: integers scaled to [-1/2, 1/2]."""
        return x / self.reach - self.middle

    def _params(self, planes: Tensor) -> Tensor:
        """All that the observation reads: what a net answers, and behind it what all values share."""
        if self.shared is None:
            return planes
        shared = self.shared.to(planes.dtype).view(-1, *[1] * (planes.dim() - 2))
        return torch.cat([planes, shared.expand(len(planes), -1, *planes.shape[2:])], 1)

    def _stored(self, x: Tensor) -> Tensor:
        if self.domain.levels is None:
            return x
        return x.round().to(torch.uint8 if self.domain.levels <= 256 else torch.int64)
