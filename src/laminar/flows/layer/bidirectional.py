"""The bidirectional ResNet VAE of IAF (Kingma et al. 2016, https://arxiv.org/abs/1606.04934; github.com/openai/iaf), a ladder
of latents (Sonderby et al. 2016, https://arxiv.org/abs/1602.02282)."""

from collections.abc import Callable
from itertools import pairwise
from math import log, pi, prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from laminar.flows import noise
from laminar.flows.layer.autoregressive import Autoregressive
from laminar.flows.layer.latent import Latent
from laminar.flows.net.context import ContextReader
from laminar.flows.net.normed_conv import NormedConv
from laminar.flows.observation.observation import Observation
from laminar.flows.space import Context, Space
from laminar.refused import Refused

SMALL = 0.1  # what a block adds to its skip is multiplied by it


class Bidirectional(Latent):
    """Maps z_l of blocks l = L .. 1, top first; a deterministic way up sees x, a way down draws, and both tell the posterior::

        log p(x, z_1 .. z_L) = log p(x | z) + sum_l log N(z_l; m_l, s_l),    m_l, s_l of the maps that z_L .. z_l+1 made
        q(z_l | x, z_L .. z_l+1):  z_l = iaf(m'_l + s'_l N(0, 1); c_l),      m'_l, s'_l, c_l of these and of the way up

    Noise is what is standard normal in p: e_l = (z_l - m_l) / s_l, all of them as one vector ``(B, D)``. Its log-det counts
    with log q here, so that the flow's prior, its temperature and what else stands behind are those of the e_l.

    Args:
        observation: recipe ``(space)`` of p(x | parameters), of images.
        iaf: recipe ``(space)`` of an autoregressive layer that moves the Gaussian draw of a block, and sees its ``code``; null
            leaves a diagonal Gaussian.
        width: channels of the maps; of a code, too.
        latent: channels of each z_l.
        depth: blocks of a level.
        levels: halvings; the first is that of the image itself.
    """

    def __init__(
        self,
        space: Space,
        observation: Callable[[Space], Observation],
        iaf: Callable[[Space], Autoregressive] | None = None,
        width: int = 160,
        latent: int = 32,
        depth: int = 20,
        levels: int = 1,
    ):
        if not space.is_image:
            raise Refused(
                f"layer=bidirectional is made of convolutions, and the event here has shape {space.event}: choose flow=vae_mlp"
            )
        for option, number in (("width", width), ("latent", latent), ("depth", depth), ("levels", levels)):
            if number < 1:
                raise Refused(f"size.{option}={number} leaves no latents: take 1 or more")
        channels, *sides = space.event
        if any(side % 2**levels for side in sides):
            raise Refused(
                f"layer=bidirectional halves the sides {sides[0]}x{sides[1]} {levels} times, which does not divide them: take "
                "fewer size.levels, or data.pad"
            )
        positions = [tuple(side // 2 ** (level + 1) for side in sides) for level in range(levels) for _ in range(depth)]
        super().__init__(space, latent * sum(h * w for h, w in positions), observation)
        self.events = [(latent, *here) for here in reversed(positions)]
        self.maps = 1
        self.reader, self.told = ContextReader(space), ContextReader(Space((1, *positions[-1]), context=space.context))
        self.into = NormedConv(channels + self.reader.channels, width, 5, stride=2)
        strides = [1, *(a[0] // b[0] for a, b in pairwise(positions))]
        self.blocks = nn.ModuleList()
        for here, stride in zip(positions, strides, strict=True):
            self.blocks.append(_Block(width, (latent, *here), stride, iaf, last=len(self.blocks) == len(positions) - 1))
        self.top = nn.Parameter(torch.zeros(width, 1, 1))
        self.given = nn.Conv2d(self.told.channels, width, 1, bias=False) if self.told.channels else None
        self.out = NormedConv(width, self.observation.arity * channels, 5, stride=2, up=True)

    def terms_by_group(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor, Tensor]:
        x = x.to(self.anchor.dtype)
        h, told = self.into(self.reader(self._seen(x), context)), []
        for block in self.blocks:
            tells, h = block.up(h)
            told.append(tells)
        h, ends, costs = self._top(x, context), [], []
        for block, tells in zip(reversed(self.blocks), reversed(told), strict=True):
            h, end, cost = block.down(h, tells, x.dtype)
            ends.append(end.flatten(1))
            costs.append(cost)
        return torch.cat(ends, 1), self.observation.log_prob(x, self._answer(h, x)), torch.cat(costs, 1)

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        return self._stored(self.observation.sample(self._decoded(z, context)))

    def mean(self, z: Tensor, context: Context = None) -> Tensor:
        return self.observation.mean(self._decoded(z, context))

    def _decoded(self, z: Tensor, context: Context) -> Tensor:
        h = self._top(z, context)
        for block, end in zip(reversed(self.blocks), self._images(z), strict=True):
            h = block.draw(h, end)
        return self._answer(h, z)

    def by_group(self, values: Tensor) -> Tensor:
        return torch.cat([image.flatten(2).sum(2) for image in self._images(values)], 1)

    def _images(self, values: Tensor) -> list[Tensor]:
        """A vector of all blocks' values as the block's maps, top first."""
        parts = values.split([prod(event) for event in self.events], 1)
        return [part.unflatten(1, event) for part, event in zip(parts, self.events, strict=True)]

    def _top(self, like: Tensor, context: Context) -> Tensor:
        """What stands above all blocks: learned channels, and what the context adds to them."""
        h = self.top.expand(len(like), -1, *self.events[0][1:])
        return h if self.given is None else h + self.given(self.told.read(like, context))

    def _answer(self, h: Tensor, like: Tensor) -> Tensor:
        return self._params(self.out(F.elu(h)).unflatten(1, (self.observation.arity, -1)).to(like.dtype))


class _Block(nn.Module):
    """One z_l, and the maps around it on the way up and on the way down: h + 0.1 f(h), whose f goes through the z_l.

    Args:
        event: of z_l, ``(latent, H, W)``.
        stride: by which the sides shrink on the way up, and grow on the way down.
        last: on the way up: no block reads its maps.
    """

    def __init__(
        self, width: int, event: tuple[int, ...], stride: int, iaf: Callable[[Space], Autoregressive] | None, last: bool
    ):
        super().__init__()
        latent = event[0]
        self.sizes, self.stride = [latent, latent, width, width], stride
        self.up_in = NormedConv(width, 2 * latent + 2 * width, stride=stride)
        self.up_out = None if last else NormedConv(width, width)
        self.down_in = NormedConv(width, 4 * latent + 2 * width)
        self.down_out = NormedConv(latent + width, width, stride=stride, up=stride > 1)
        self.iaf = iaf and iaf(Space(event, context={"code": (width, *event[1:])}))
        if self.iaf is not None and not isinstance(self.iaf, Autoregressive):
            raise Refused(
                f"layer.iaf moves a block's draw by an autoregressive step, and {type(self.iaf).__name__} is none: give "
                "layer=autoregressive's page there, or null for a diagonal Gaussian"
            )

    def up(self, h: Tensor) -> tuple[list[Tensor], Tensor]:
        """What the block tells its posterior (mean, log-scale and code), and the maps of the next one."""
        *tells, inner = self.up_in(F.elu(h)).split(self.sizes, 1)
        if self.up_out is None:
            return tells, h
        return tells, h[..., :: self.stride, :: self.stride] + SMALL * self.up_out(F.elu(inner))

    def down(self, h: Tensor, tells: list[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """The maps of the block below, the noise e of a draw z ~ q, and log q(z) + log s of each map of it, ``(B, latent)``."""
        (mean, log_scale), (shift, log_width, code), inner = self._read(h)
        mean, log_scale, shift, log_width = (t.to(dtype) for t in (mean, log_scale, shift + tells[0], log_width + tells[1]))
        draw = noise.normal(mean)
        z, log_q = torch.addcmul(shift, draw, log_width.exp()), -0.5 * (draw.square() + log(2 * pi)) - log_width
        if self.iaf is not None:
            z, log_slope = self.iaf.law(z, *self.iaf.params(z, {"code": code + tells[2]}))
            log_q = log_q - log_slope
        return self._below(h, z, inner), (z - mean) * torch.exp(-log_scale), (log_q + log_scale).flatten(2).sum(2)

    def draw(self, h: Tensor, end: Tensor) -> Tensor:
        """The maps of the block below, for noise e of shape ``(B, latent, H, W)``."""
        (mean, log_scale), _, inner = self._read(h)
        return self._below(h, torch.addcmul(mean.to(end.dtype), end, log_scale.to(end.dtype).exp()), inner)

    def _read(self, h: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], Tensor]:
        """The prior's mean and log-scale; what the way down tells the posterior; the maps that go on beside z."""
        *parts, inner = self.down_in(F.elu(h)).split([*self.sizes[:2], *self.sizes], 1)
        return tuple(parts[:2]), tuple(parts[2:]), inner

    def _below(self, h: Tensor, z: Tensor, inner: Tensor) -> Tensor:
        skip = h.repeat_interleave(self.stride, 2).repeat_interleave(self.stride, 3) if self.stride > 1 else h
        return skip + SMALL * self.down_out(F.elu(torch.cat([z.to(inner.dtype), inner], 1)))
