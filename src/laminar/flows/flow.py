"""Flow: a transform that ends in a prior. The likelihood of the data set's own values."""

from collections.abc import Callable
from contextlib import nullcontext
from math import log

import torch
from torch import Tensor, nn

from laminar.flows import noise
from laminar.flows.compose.chain import Chain, links_of
from laminar.flows.context.none import Unconditional
from laminar.flows.dequantization.dequantization import Dequantization
from laminar.flows.guidance import guided
from laminar.flows.layer.autoregressive import Autoregressive
from laminar.flows.layer.continuous import Continuous
from laminar.flows.layer.latent import Latent
from laminar.flows.norm.batchnorm import frozen_batch_statistics
from laminar.flows.prior.prior import Prior
from laminar.flows.rows import Score, at_once, by_rows, context_of, data_of, mean_score, noise_of
from laminar.flows.space import Context, Space, repeated, rows_of
from laminar.flows.transform import Recipe, Transform
from laminar.refused import Refused


class Flow(nn.Module):
    """x -> z by ``transform``, z ~ ``prior``:  log p(x) = log p(z) + contribution.

    Every number is in nats and belongs to the values as they are stored: pixels as integers, rows of a table. Rows may be
    tensors, or arrays, which give arrays: see ``by_rows``.

    Args:
        space: the data's Space.
        transform: recipe ``(space)`` of the way from data to noise; its first part clears the levels of integer data.
        prior: recipe ``(space)`` of the noise's distribution.
        context: recipe ``(space)`` of an encoder that turns what the data come with (class indices) into what the parts
            see. By default nothing reaches them.
    """

    def __init__(
        self,
        space: Space,
        transform: Recipe,
        prior: Callable[[Space], Prior],
        context: Callable[[Space], nn.Module] = Unconditional,
    ):
        super().__init__()
        self.space = space
        self.context = context(space)
        self.transform = transform(self.context.codomain)
        if self.transform.codomain.levels is not None:
            raise Refused(
                f"the data hold integers ({space.levels} levels), and no part of this flow dequantizes them: "
                "its first part must be ${dequantization}"
            )
        self.prior = prior(self.transform.codomain)
        self.prior.check_noise()
        self._refuse_sharing()
        for name, part in self.named_modules():
            if isinstance(part, Continuous) and name.endswith(part.name):  # the outermost flow's word; a view's is another
                part.name = name

    @property
    def conditional(self) -> bool:
        """Whether parts see what the data come with, so that ``context`` must be given."""
        return bool(self.context.codomain.context)

    @property
    def device(self) -> torch.device:
        return self.prior.anchor.device

    @property
    def stochastic(self) -> bool:
        return self.transform.stochastic

    @property
    def noisy(self) -> bool:
        return self.transform.noisy

    @property
    def invertible(self) -> bool:
        return self.transform.invertible

    @property
    def unit(self) -> str:
        """What ``log_prob`` is told as: the data's own ``bpd`` or ``nll``, or another name where it is no number of theirs."""
        return getattr(self._dequantizer, "unit", None) or self.space.unit

    @property
    def units(self) -> tuple[str, ...]:
        """The unit, and after bits/dim nats as well, where papers tell those: of binary values, and of latent variables."""
        latent = any(isinstance(part, Latent) for part in self.modules())
        nats = self.unit == "bpd" and (latent or self.space.levels == 2)
        return (self.unit, "nll") if nats else (self.unit,)

    @property
    def grade(self) -> str:
        """What ``log_prob`` is to the log-likelihood: exact, bound, estimate or bound+estimate; or a biased estimate."""
        estimate = "biased estimate" if self.transform.biased else "estimate"
        names = [name for name, holds in (("bound", self.stochastic), (estimate, self.noisy)) if holds]
        return "+".join(names) or "exact"

    @by_rows(data_of)
    def log_prob(self, x: Tensor, context: Context = None, num_samples: int = 1, chunk: int | None = None) -> Tensor:
        """log p(x) in nats, ``(B,)``; for a stochastic flow a lower bound, tighter with more samples.

        With K = ``num_samples`` > 1 it is the importance-weighted bound log 1/K sum_k p(x, draw_k) / q(draw_k | x)
        (Burda et al. 2016, https://arxiv.org/abs/1509.00519); batch statistics are frozen meanwhile.

        Args:
            x: ``(B, *event)``, stored values.
            context: name -> tensor ``(B, ...)``; class indices ``(B,)`` under ``label``.
            num_samples: K.
            chunk: rows that pass the flow at once; by default as many as x has, so memory does not grow with K.
        """
        if num_samples == 1:
            return self._log_weight(x, self._seen(context))
        log_weights = self.log_weights(x, context, num_samples, chunk)
        return log_weights.logsumexp(0) - log(len(log_weights))

    def bits_per_dim(self, x: Tensor, context: Context = None, num_samples: int = 1, seed: int = 0) -> Score:
        """Mean bits/dim of integers, its standard error over rows, and the grade of the number; without gradients.

        Row i draws by (seed, i). K = ``num_samples`` tightens a bound: see ``log_prob``.
        """
        if not self.space.discrete:
            raise Refused("bits/dim are of integers, and some of these data are real numbers: take nll(x), in nats")
        return mean_score(self, x, context, "bpd", num_samples, seed)

    def nll(self, x: Tensor, context: Context = None, num_samples: int = 1, seed: int = 0) -> Score:
        """The mean of -log p(x) in nats, likewise."""
        return mean_score(self, x, context, "nll", num_samples, seed)

    def log_weights(self, x: Tensor, context: Context = None, num_samples: int = 1, chunk: int | None = None) -> Tensor:
        """The logarithms of K importance weights p(x, draw) / q(draw | x), ``(K, B)``; one row for an exact flow."""
        if num_samples < 1:
            raise Refused(f"num_samples counts the draws behind a bound, so it is at least 1, not {num_samples}")
        if num_samples > 1 and self.unit != self.space.unit:
            raise Refused(
                f"num_samples > 1 tightens a bound on the likelihood of the data, and {self.unit} is none: "
                "take num_samples=1, or dequantization=uniform"
            )
        if self.noisy and num_samples > 1:
            raise Refused(
                "num_samples > 1 would inflate a likelihood whose log-det is an estimate: take trace=exact, or num_samples=1"
            )
        count = num_samples if self.stochastic else 1
        at_once = min(count, max(1, (chunk or len(x)) // max(1, len(x))))
        context = self._seen(context)
        weights = []
        with frozen_batch_statistics(self) if count > 1 else nullcontext():
            for first in range(0, count, at_once):
                copies = min(at_once, count - first)
                with noise.copies(first, copies):
                    rows = self._log_weight(torch.cat([x] * copies), repeated(context, copies))
                weights.append(rows.view(copies, -1))
        return torch.cat(weights)

    def estimates(self, x: Tensor, context: Context = None, repeats: int = 2) -> Tensor:
        """log p(x) by R repeats of what a noisy flow estimates, ``(R, B)``; what the model itself draws is the same in all.

        Their mean is unbiased. Their log-mean-exp is not, which is why K-sample bounds refuse estimates: of normal noise of
        variance v it makes up to v / 2 too much.
        """
        if repeats < 1:
            raise Refused(f"repeats={repeats} estimates nothing: take 1 or more")
        rows = []
        with noise.kept(len(x)):
            for number in range(repeats):
                with noise.repeat(number):
                    rows.append(self.log_prob(x, context))
        return torch.stack(rows)

    def sample(
        self, n: int, context: Context = None, temperature: float = 1.0, guidance: float = 0.0, denoise: bool = True
    ) -> Tensor:
        """n draws of the data, as stored: ``(n, *event)``, uint8 for images. Temperature acts on the prior alone.

        Args:
            guidance: how far every law's parameters are moved on from those of no context (``flows/guidance``); 0 is the model.
            denoise: where the flow is a density of noisy data, moves draws z by sigma^2 grad log p(z), to the mean of the data
                that they may be noisy versions of (Tweedie's formula).
        """
        if temperature <= 0:
            raise Refused(f"temperature is above 0 (1 is the model itself), not {temperature}")
        if not noise.keys_are_given():
            context, most = context_of(self, context, n), at_once(self)
            if n > most:
                parts = (slice(first, min(first + most, n)) for first in range(0, n, most))
                how = {"temperature": temperature, "guidance": guidance, "denoise": denoise}
                return torch.cat([self.sample(rows.stop - rows.start, rows_of(context, rows), **how) for rows in parts])
        z, seen = self.prior.sample(n, temperature), self._seen(context)
        noisy = self._dequantizer is not None and self._dequantizer.sigma is not None
        way = self.locate(Dequantization)[2] if noisy and denoise else self.transform
        if guidance:
            if any(isinstance(part, Continuous | Latent) for part in self.modules()):
                raise Refused("guidance moves the parameters of laws, and a part of this flow has none: leave it at 0")
            nothing = self.context.nothing(seen)
            both = {name: torch.cat([value, nothing[name]]) for name, value in seen.items()}
            with guided(guidance):
                x = way.inverse(torch.cat([z, z]), both)[:n]
        else:
            x = way.inverse(z, seen)
        return self._dequantizer.inverse(self._denoised(x, context)) if noisy and denoise else x

    def _denoised(self, z: Tensor, context: Context) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            z = z.detach().clone().requires_grad_()
            (score,) = torch.autograd.grad(self.density().log_prob(z, context).sum(), z)
        return z.detach() + self._dequantizer.sigma**2 * score

    def decode_by(self, inverse: str, tolerance: float = 0.0) -> None:
        """Chooses how autoregressive layers find x: ``sequential`` or ``jacobi``, the same to rounding, or to a tolerance."""
        layers = [part for part in self.modules() if isinstance(part, Autoregressive)]
        if not layers:
            raise Refused(f"inverse={inverse} is a choice of autoregressive layers, and this flow has none: leave it out")
        for layer in layers:
            layer.decode_by(inverse, tolerance)

    def sample_with_log_prob(self, n: int, context: Context = None) -> tuple[Tensor, Tensor]:
        """n draws with their log p(x) ``(n,)``, differentiable in the parameters.

        Raises:
            Refused: for a stochastic flow. Its reals behind a dequantizer have such draws: ``flow.density()``.
        """
        z = self.prior.sample(n)
        x, log_det = self.transform.inverse_with_log_det(z, self._seen(context))
        return x, self.prior.log_prob(z) - log_det

    @by_rows(data_of)
    def encode(self, x: Tensor, context: Context = None, mean: bool = False) -> Tensor:
        """The noise behind x, ``(B, D)``. With ``mean``, draws on the way are replaced by their centres."""
        with noise.centre() if mean else nullcontext():
            return self.transform(x, self._seen(context))[0]

    @by_rows(noise_of)
    def decode(self, z: Tensor, context: Context = None, mean: bool = False) -> Tensor:
        """The data that noise z stands for: ``decode(encode(x)) == x`` for integers."""
        with noise.centre() if mean else nullcontext():
            return self.transform.inverse(z, self._seen(context))

    def refresh(self) -> None:
        """Brings parts with state of their own (power iterations) up to the weights: see ``Transform.refresh``."""
        self.transform.refresh()

    @property
    def refreshes(self) -> bool:
        """Whether some part has such state."""
        return any(isinstance(m, Transform) and type(m).refresh is not Transform.refresh for m in self.modules())

    def locate(self, kind: type[Transform]) -> tuple[Chain, Transform, Chain]:
        """The one part of a kind, and what stands before and after it.

        The sides are views: chains of this flow's own parts, which no module may register.

        Raises:
            Refused: if the chain of the flow's parts, and the chains in it, hold none of the kind or several.
        """
        links = list(links_of(self.transform))
        found = [place for place, part in enumerate(links) if isinstance(part, kind)]
        if len(found) != 1:
            raise Refused(
                f"exactly one {kind.__name__} is needed between data and noise, and this flow has {len(found)} "
                f"(among {', '.join(type(part).__name__ for part in links)}): choose a flow with one"
            )
        place, part = found[0], links[found[0]]
        return Chain.of(self.transform.domain, links[:place]), part, Chain.of(part.codomain, links[place + 1 :])

    def density(self) -> "Flow":
        """The flow behind this one's dequantizer: a density of the reals that it leads to. A view, of the same weights.

        A flow without a dequantizer is its own density.
        """
        if self._dequantizer is None:
            return self
        before, part, after = self.locate(Dequantization)
        if before.parts:
            raise Refused("the dequantizer is this flow's first part no more: put nothing before ${dequantization}")
        view = Flow(part.codomain, lambda space: after, lambda space: self.prior, lambda space: self.context)
        view.training = self.training
        return view

    def leak(self, n: int, context: Context = None) -> float:
        """The share of n samples that the dequantizer would clamp into the data's range; 0 for a flow without one."""
        if self._dequantizer is None:
            return 0.0
        return self._dequantizer.outside(self.density().sample(n, context)).float().mean().item()

    @property
    def _dequantizer(self) -> Dequantization | None:
        return next((part for part in links_of(self.transform) if isinstance(part, Dequantization)), None)

    def _seen(self, context: Context) -> Context:
        return self.context(context)

    def _log_weight(self, x: Tensor, context: Context) -> Tensor:
        z, contribution = self.transform(x, context)
        return self.prior.log_prob(z) + contribution

    def _refuse_sharing(self) -> None:
        names: dict[int, str] = {}
        for name, parameter in self.named_parameters(remove_duplicate=False):
            if names.setdefault(id(parameter), name) != name:
                raise Refused(
                    f"{names[id(parameter)]} and {name} are one parameter: a part was built before its Space was known; "
                    "give its page _partial_: true"
                )
