"""Planes: the top and the bottom, or the left and the right half of an image."""

from laminar.flows.mask.blocks import Blocks
from laminar.flows.mask.partition import images_only
from laminar.flows.space import Space
from laminar.refused import Refused


class Planes(Blocks):
    """given is the top half and moved the bottom half, or left and right; flipped, the other way round.

    The deliberately bad partitioning of the flow lecture: far apart halves say little about each other.

    Args:
        axis: ``rows`` cuts between two rows (top, bottom), ``columns`` between two columns (left, right).
    """

    def __init__(self, space: Space, flip: bool = False, axis: str = "rows"):
        images_only("planes", space)
        if axis not in ("rows", "columns"):
            raise Refused(f"a plane's axis is rows or columns, not {axis!r}")
        dim = 1 if axis == "rows" else 2
        if space.event[dim] < 2:
            raise Refused(f"mask=planes would move nothing, because the event {space.event} has one of its {axis}")
        super().__init__(space, flip, dim)
