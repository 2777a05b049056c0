"""Random: an order drawn once, by a seed of its own."""

import numpy as np

from laminar.flows.order.order import Order
from laminar.flows.space import Space


class Random(Order):
    """Value i is computed from the values of lower rank in a permutation that ``seed`` alone decides."""

    def __init__(self, space: Space, seed: int = 0):
        self.seed = seed
        super().__init__(space)

    def ranks(self, space: Space) -> np.ndarray:
        return np.random.default_rng(self.seed).permutation(space.size)
