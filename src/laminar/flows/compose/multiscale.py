"""Multiscale: levels that let half of the channels go (RealNVP, https://arxiv.org/abs/1605.08803, section 3.6)."""

from collections.abc import Callable
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from laminar.flows.compose.level import Level
from laminar.flows.mask.channel import Channel
from laminar.flows.mask.scheme import Scheme
from laminar.flows.space import Context, Space
from laminar.flows.transform import Recipe, Transform
from laminar.refused import Refused


class Multiscale(Transform):
    """From an event to one flat noise vector ``(B, D)``.

    Each level runs its program; every level but the last then lets the second half of its channels go and hands the first
    half down. The noise holds what was let go from the first level to the last, then the rest: ``slices`` names the parts.

    Args:
        scheme: the program of one level.
        step: recipe ``(space, mask)`` of the scheme's steps.
        levels: how many; 1 lets nothing go.
        release: recipe ``(partition)`` of a coupling that sees what is kept and moves what is let go (Glow's learned
            split prior, as a bijection).
        top: recipe ``(space)`` of a transform of what the last level leaves (Glow's learned top prior).
    """

    def __init__(
        self,
        space: Space,
        scheme: Scheme,
        step: Callable[..., Transform],
        levels: int = 1,
        release: Callable[..., nn.Module] | None = None,
        top: Recipe | None = None,
    ):
        super().__init__(space, space.reshaped(space.size))
        self.bodies, self.releases = nn.ModuleList(), nn.ModuleList()
        self.cuts, ends, here = [], [], space  # ends: the Spaces that make up the noise
        for level in range(levels):
            last = level == levels - 1
            try:
                body = Level(here, scheme, step, level, last)
                cut = None if last else Channel(body.codomain)
            except Refused as no:
                where = f"level {level + 1} of {levels}, an event of shape {here.event}"
                raise Refused(f"{no} (multiscale: {where})" if levels > 1 else str(no)) from no
            self.bodies.append(body)
            here = body.codomain
            if not last:
                self.cuts.append(cut)
                if release is not None:
                    self.releases.append(release(cut))
                ends.append(self.releases[-1].codomain if self.releases else cut.moved)
                here = cut.given
        self.top = None if top is None else top(here)
        ends.append(here if self.top is None else self.top.codomain)
        self.rest = ends[-1].event
        self.slices = [slice(a, b) for a, b in pairwise(accumulate((end.size for end in ends), initial=0))]
        if any(end.upper != space.upper for end in ends):
            self.codomain = self.codomain.within(None)

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        gone, total = [], 0.0
        for level, body in enumerate(self.bodies):
            x, contribution = body(x, context)
            total = total + contribution
            if level < len(self.cuts):
                x, released = self.cuts[level].split(x)
                if self.releases:
                    released, log_det = self.releases[level](x, released, context)
                    total = total + log_det
                gone.append(released.flatten(1))
        if self.top is not None:
            x, log_det = self.top(x, context)
            total = total + log_det
        return torch.cat([*gone, x.flatten(1)], 1), total

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        return self._back(z, context, with_log_det=False)[0]

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self._back(z, context, with_log_det=True)

    def _back(self, z: Tensor, context: Context, with_log_det: bool) -> tuple[Tensor, Tensor]:
        total = torch.zeros(len(z), device=z.device)

        def undo(part: nn.Module, *tensors: Tensor) -> Tensor:
            nonlocal total
            if not with_log_det:
                return part.inverse(*tensors, context)
            x, log_det = part.inverse_with_log_det(*tensors, context)
            total = total + log_det
            return x

        x = z[:, self.slices[-1]].unflatten(1, self.rest)
        if self.top is not None:
            x = undo(self.top, x)
        for level in reversed(range(len(self.bodies))):
            if level < len(self.cuts):
                released = z[:, self.slices[level]].unflatten(1, self.cuts[level].moved.event)
                if self.releases:
                    released = undo(self.releases[level], x, released)
                x = self.cuts[level].merge(x, released)
            x = undo(self.bodies[level], x)
        return x, total
