"""Columns: every other column, or row, of an image (what Flow++'s code calls a checkerboard)."""

import torch
from torch import Tensor

from laminar.flows.mask.partition import Partition, images_only
from laminar.flows.space import Space
from laminar.refused import Refused


class Columns(Partition):
    """given = x[..., 0::2], moved = x[..., 1::2] of an image; flipped, the other way round.

    Args:
        axis: ``columns`` alternates columns, ``rows`` alternates rows.
    """

    def __init__(self, space: Space, flip: bool = False, axis: str = "columns"):
        super().__init__(space, flip)
        images_only("columns", space)
        if axis not in ("rows", "columns"):
            raise Refused(f"the axis of mask=columns is rows or columns, not {axis!r}")
        self.dim = -1 if axis == "columns" else -2
        if space.event[self.dim] % 2:
            raise Refused(
                f"mask=columns needs an even number of {axis}, and the event here has shape {space.event}: "
                "use fewer size.levels, multiscale=flat, or pad the data"
            )
        c, h, w = space.event
        self.given = self.moved = space.reshaped(c, h, w // 2) if axis == "columns" else space.reshaped(c, h // 2, w)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        even, odd = x.unflatten(self.dim, (-1, 2)).unbind(self.dim)
        return (odd, even) if self.flip else (even, odd)

    def merge(self, given: Tensor, moved: Tensor) -> Tensor:
        even, odd = (moved, given) if self.flip else (given, moved)
        return torch.stack((even, odd), self.dim).flatten(self.dim - 1, self.dim)
