"""Halves: the first and the second half of a vector."""

from laminar.flows.mask.blocks import Blocks
from laminar.flows.mask.partition import vectors_only
from laminar.flows.space import Space
from laminar.refused import Refused


class Halves(Blocks):
    """given = x[:D//2], moved = x[D//2:] of a vector ``(D,)``; flipped, the other way round."""

    def __init__(self, space: Space, flip: bool = False):
        vectors_only("halves", space)
        if space.event[0] < 2:
            raise Refused("mask=halves would move nothing, because the event has one value: choose data with more of them")
        super().__init__(space, flip, dim=0)
