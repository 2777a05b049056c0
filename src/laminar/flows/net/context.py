"""ContextReader: the one way in which conditioners read context."""

from math import prod

import torch
from torch import Tensor

from laminar.flows.space import Context, Space
from laminar.refused import Refused


class ContextReader:
    """Brings every piece of context to the shape of the event that a net sees, and joins them along the channels.

    A net that sees vectors gets every piece flattened. A net that sees images of ``(H, W)`` positions gets vectors as
    constant planes; a map ``(C, h, w)`` keeps all its values: where it is finer than the net its pixels move into
    channels (space-to-depth, by a factor for each side), where it is coarser they are repeated.

    Attributes:
        channels: how many values (for each position of an image) the context adds; 0 where there is none.
    """

    def __init__(self, seen: Space):
        self.shapes = dict(seen.context)
        self.positions = seen.event[1:]
        maps = [name for name, shape in self.shapes.items() if len(shape) == 3 and seen.is_image]
        self.fits = {name: _fit(name, self.shapes[name], self.positions) for name in maps}
        self.channels = sum(
            shape[0] * prod(self.fits[name][0]) if name in self.fits else prod(shape) for name, shape in self.shapes.items()
        )

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        """x with the context behind its channels: ``(B, C, ...) -> (B, C + channels, ...)``."""
        return torch.cat([x, self.read(x, context)], 1) if self.shapes else x

    def read(self, x: Tensor, context: Context) -> Tensor:
        """The context alone, ``(B, channels, ...)``, in x's dtype."""
        missing = [name for name in self.shapes if name not in (context or {})]
        if missing:
            raise Refused(
                f"this flow is conditional on {', '.join(self.shapes)}, and {', '.join(missing)} was not given: "
                "pass context={name: tensor of shape (B, ...)}"
            )
        return torch.cat([self._bring(name, context[name].to(x.dtype)) for name in self.shapes], 1)

    def _bring(self, name: str, value: Tensor) -> Tensor:
        if name not in self.fits:
            vector = value.reshape(len(value), -1)
            return vector[(...,) + (None,) * len(self.positions)].expand(-1, -1, *self.positions)
        (down_h, down_w), (up_h, up_w) = self.fits[name]
        if down_h > 1 or down_w > 1:
            value = value.unflatten(3, (-1, down_w)).unflatten(2, (-1, down_h))
            value = value.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)
        if up_h > 1 or up_w > 1:
            value = value.repeat_interleave(up_h, 2).repeat_interleave(up_w, 3)
        return value


def _fit(name: str, shape: tuple[int, ...], positions: tuple[int, ...]) -> tuple[tuple[int, int], tuple[int, int]]:
    """By which factors a map's height and width shrink, and by which they grow, to become ``positions``."""
    down = tuple(max(1, have // want) for have, want in zip(shape[1:], positions, strict=True))
    up = tuple(max(1, want // have) for have, want in zip(shape[1:], positions, strict=True))
    if any(have * u != want * d for have, want, u, d in zip(shape[1:], positions, up, down, strict=True)):
        raise Refused(
            f"context {name!r} is a map of {shape[1]}x{shape[2]} positions and a net here sees {positions[0]}x{positions[1]}, "
            "which does not divide: give it in a size that the net's is a multiple or a divisor of, or as a vector"
        )
    return down, up
