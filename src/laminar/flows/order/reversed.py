"""Reversed: from the last value to the first."""

import numpy as np

from laminar.flows.order.order import Order
from laminar.flows.space import Space


class Reversed(Order):
    """Value i is computed from the values behind it."""

    def ranks(self, space: Space) -> np.ndarray:
        return np.arange(space.size)[::-1].copy()
