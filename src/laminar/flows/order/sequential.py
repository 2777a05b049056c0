"""Sequential: row after row, from the first value to the last (MADE, Germain et al. 2015, https://arxiv.org/abs/1502.03509)."""

import numpy as np

from laminar.flows.order.order import Order
from laminar.flows.space import Space


class Sequential(Order):
    """Value i is computed from the values before it."""

    def ranks(self, space: Space) -> np.ndarray:
        return np.arange(space.size)
