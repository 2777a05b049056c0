"""Variational autoencoder (Kingma, Welling 2014, https://arxiv.org/abs/1312.6114), as one stop between data and noise."""

from collections.abc import Callable

from torch import Tensor, nn

from laminar.flows import noise
from laminar.flows.layer.latent import Latent
from laminar.flows.net.causal import Causal
from laminar.flows.net.net import Net
from laminar.flows.observation.observation import Observation
from laminar.flows.space import Context, Space
from laminar.refused import Refused


class Variational(Latent):
    """A vector z, ``(B, latent)``: an encoder tells the posterior of x, and a decoder makes p(x | z) of z.

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
        super().__init__(space, latent, observation)
        inner = self.codomain
        reals, arity = space.reals(), self.observation.arity
        self.encoder = encoder(reals, Space((features,)), 1)
        self.posterior = posterior(inner.seeing(code=(features,)))
        if self.posterior.transform.codomain.event != inner.event:
            raise Refused(f"the posterior's noise has another shape than z, ({latent},): take parts that keep it")
        self.decoder = decoder(inner, reals, planes if local else arity)
        channels, *positions = space.event
        self.local = local and local(reals.seeing(told=(planes * channels, *positions)), reals, arity)

    def terms_by_group(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor, Tensor]:
        x = x.to(self.anchor.dtype)
        z, log_q = self.posterior.sample_with_log_prob(len(x), self.told(x, context))
        params = self._fitting("decoder", self.decoder(z, context), self.domain.event)
        if self.local is not None:
            params = self.local(self._seen(x), self._told(params, context))
        return z, self.observation.log_prob(x, self._params(params.to(x.dtype))), log_q.unsqueeze(1)

    def told(self, x: Tensor, context: Context = None) -> Context:
        """What the posterior sees of x: the encoder's ``code``, and the context."""
        x = x.to(self.anchor.dtype)
        code = self._fitting("encoder", self.encoder(self._seen(x), context), self.posterior.space.context["code"])
        return {**(context or {}), "code": code.squeeze(1).to(x.dtype)}

    def mean(self, z: Tensor, context: Context = None) -> Tensor:
        """E[x | z], ``(B, *event)``, which need not be a value that occurs.

        Raises:
            Refused: under a local net, where the values of x are not independent given z.
        """
        if self.local is not None:
            raise Refused("under layer.local a value knows those before it, and E[x | z] has no closed form: draw x instead")
        return self.observation.mean(self._params(self.decoder(z, context).to(z.dtype)))

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        params = self.decoder(z, context)
        if self.local is None:
            return self._stored(self.observation.sample(self._params(params.to(z.dtype))))

        def solve(u: Tensor, params: Tensor) -> Tensor:
            return self._seen(self.observation.quantile(u, self._params(params.to(u.dtype))))

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

    def _told(self, planes: Tensor, context: Context) -> Context:
        return {**(context or {}), "told": planes.flatten(1, 2)}
