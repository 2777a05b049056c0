"""Spiral: from the rim of an image inwards, or from its middle outwards."""

import numpy as np

from laminar.flows.order.order import Order
from laminar.flows.space import Space
from laminar.refused import Refused


class Spiral(Order):
    """A walk clockwise along the rim and on inwards; a pixel's channels follow one another.

    Args:
        outwards: the same walk backwards, from the middle to the rim.
    """

    def __init__(self, space: Space, outwards: bool = False):
        if not space.is_image:
            raise Refused(
                f"order=spiral walks over an image, and the event here has shape {space.event}: choose order=sequential, "
                "order=reversed or order=random"
            )
        self.outwards = outwards
        super().__init__(space)

    def ranks(self, space: Space) -> np.ndarray:
        channels, height, width = space.event
        left, walk = np.arange(height * width).reshape(height, width), []
        while left.size:
            walk.append(left[0])
            left = np.rot90(left[1:])  # what was the right side comes to the top
        places = (np.concatenate(walk)[:, None] + height * width * np.arange(channels)).ravel()
        return np.argsort(places[::-1] if self.outwards else places)
