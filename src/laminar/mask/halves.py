"""Halves: the first and the second half of a vector."""

from laminar.mask.blocks import Blocks
from laminar.refused import Refused
from laminar.space import Space


class Halves(Blocks):
    """given = x[:D//2], moved = x[D//2:] of a vector ``(D,)``; flipped, the other way round."""

    def __init__(self, space: Space, flip: bool = False):
        if not space.is_vector:
            raise Refused(
                f"mask=halves splits vectors, and the event here is an image of shape {space.event}: "
                "choose mask=checkerboard or mask=channel, or a flow that flattens (flow=nice, flow=realnvp_flat)"
            )
        if space.event[0] < 2:
            raise Refused("mask=halves would move nothing, because the event has one value: choose data with more of them")
        super().__init__(space, flip, dim=0)
