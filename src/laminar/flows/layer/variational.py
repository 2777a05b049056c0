"""Variational autoencoder (Kingma, Welling 2014, https://arxiv.org/abs/1312.6114), as one stop between data and noise."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from laminar.flows import ledger, noise
from laminar.flows.net.causal import Causal
from laminar.flows.net.net import Net
from laminar.flows.observation.observation import Observation
from laminar.flows.space import Context, Space
from laminar.flows.transform import Transform
from laminar.refused import Refused


class Variational(Transform):
    """z ~ q(z | x), reals ``(B, latent)``; contribution log p(x | z) - log q(z | x), in nats of the stored values::

        log p(x) >= E_q [ log p(x | z) + log p(z) - log q(z | x) ],   and back: x ~ p(x | z)

    What comes behind this stop is p(z): nothing but the flow's prior, or any bijection before it. Integers go straight in.

    Args:
        latent: values of z.
        encoder: recipe ``(seen, asked, arity)`` of a net from x, scaled to [-1/2, 1/2], to a code ``(B, features)``.
        posterior: recipe ``(space)`` of q(z | x), a Flow that sees the ``code``. It is used in its sampling direction only,
            so its transform is an ``Inverse``.
        decoder: recipe ``(seen, asked, arity)`` of a net from z to the parameters of x.
        observation: recipe ``(space)`` of p(x | parameters).
        local: recipe ``(seen, asked, arity)`` of a causal net that stands between the decoder and the parameters: they see
            the values before as well, as far as it reaches (VLAE, Chen et al. 2017, https://arxiv.org/abs/1611.02731). x is
            then drawn value after value.
        planes: what the decoder tells the local net of each value.
        features: values of the code.
    """

    stochastic = True
    invertible = False

    def __init__(
        self,
        space: Space,
        latent: int,
        encoder: Callable[..., Net],
        posterior: Callable[[Space], nn.Module],
        decoder: Callable[..., Net],
        observation: Callable[[Space], Observation],
        local: Callable[..., Causal] | None = None,
        planes: int = 8,
        features: int = 450,
    ):
        for option, number in (("latent", latent), ("features", features), ("planes", planes)):
            if number < 1:
                raise Refused(f"layer.{option}={number} leaves nothing between encoder and decoder: take 1 or more")
        inner = Space((latent,), context=space.context)
        super().__init__(space, inner)
        self.observation = observation(space)
        reals, arity = space.reals(), self.observation.arity
        self.encoder = encoder(reals, Space((features,)), 1)
        self.posterior = posterior(inner.seeing(code=(features,)))
        if self.posterior.transform.codomain.event != inner.event:
            raise Refused(f"the posterior's noise has another shape than z, ({latent},): take parts that keep it")
        self.decoder = decoder(inner, reals, planes if local else arity)
        channels, *positions = space.event
        self.local = local and local(reals.seeing(told=(planes * channels, *positions)), reals, arity)
        self.register_buffer("anchor", torch.zeros(()), persistent=False)  # carries the flow's precision
        self.reach = 1 if space.levels is None else max(space.levels - 1, 1)
        self.middle = 0.0 if space.levels is None else 0.5

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        z, log_p, log_q = self.terms(x, context)
        ledger.note("distortion", -log_p)
        return z, log_p - log_q

    def terms(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor, Tensor]:
        """z ~ q(z | x) with log p(x | z) and log q(z | x), both ``(B,)``."""
        x = x.to(self.anchor.dtype)
        code = self._fitting("encoder", self.encoder(self._seen(x), context), self.posterior.space.context["code"]).squeeze(1)
        z, log_q = self.posterior.sample_with_log_prob(len(x), {**(context or {}), "code": code.to(x.dtype)})
        params = self._fitting("decoder", self.decoder(z, context), self.domain.event)
        if self.local is not None:
            params = self.local(self._seen(x), self._told(params, context))
        return z, self.observation.log_prob(x, params.to(x.dtype)), log_q

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        params = self.decoder(z, context)
        if self.local is None:
            return self._stored(self.observation.sample(params.to(z.dtype)))

        def solve(u: Tensor, params: Tensor) -> Tensor:
            return self._seen(self.observation.quantile(u, params.to(u.dtype)))

        u = noise.uniform(z.new_empty(len(z), *self.domain.event))
        seen = self.local.sequential(solve, u, self._told(params, context))
        return self._stored((seen + self.middle) * self.reach)

    @staticmethod
    def _fitting(name: str, answer: Tensor, event: tuple[int, ...]) -> Tensor:
        if answer.shape[2:] != event:
            raise Refused(
                f"the {name} answers with {tuple(answer.shape[2:])} where {event} is asked of it: choose one for images or one "
                "for vectors (layer=variational or layer=variational_mlp), as the data are"
            )
        return answer

    def _seen(self, x: Tensor) -> Tensor:
        """Values as nets see them."""
        return x / self.reach - self.middle

    def _told(self, planes: Tensor, context: Context) -> Context:
        return {**(context or {}), "told": planes.flatten(1, 2)}

    def _stored(self, x: Tensor) -> Tensor:
        if self.domain.levels is None:
            return x
        return x.round().to(torch.uint8 if self.domain.levels <= 256 else torch.int64)
