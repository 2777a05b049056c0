"""Interleaved: position after position, and at each position channel after channel, as IAF's masked convolutions go."""

import numpy as np

from laminar.flows.order.order import Order
from laminar.flows.space import Space
from laminar.refused import Refused


class Interleaved(Order):
    """Value (c, i, j) is computed from all channels of the positions before (i, j), and from the channels before c there.

    Args:
        backwards: the same walk from its end.
    """

    def __init__(self, space: Space, backwards: bool = False):
        if not space.is_image:
            raise Refused(
                f"order=interleaved walks over an image's channels, and the event here has shape {space.event}: choose "
                "order=sequential, order=reversed or order=random"
            )
        self.backwards = backwards
        super().__init__(space)

    def ranks(self, space: Space) -> np.ndarray:
        channels, height, width = space.event
        ranks = np.arange(space.size).reshape(height * width, channels).T.ravel()
        return space.size - 1 - ranks if self.backwards else ranks
