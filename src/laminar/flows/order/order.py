"""Order: which values of an event may inform which. What an autoregressive layer is swept over, as couplings are over masks."""

import numpy as np

from laminar.flows.space import Space
from laminar.refused import Refused


class Order:
    """A rank for each value: a value's parameters are computed from the values of lower rank, and of no others.

    Recipe ``(space)``. Stateless, and a function of its options alone, so that a checkpoint meets the same masks again.

    Attributes:
        rank: int64 ``(D,)``, a permutation of 0 .. D-1, in the event's row-major order.
    """

    def __init__(self, space: Space):
        self.space = space
        self.rank = self.ranks(space)
        if sorted(self.rank.tolist()) != list(range(space.size)):
            name = type(self).__module__.rpartition(".")[2]
            raise Refused(
                f"order={name} gives an order of {len(self.rank)} ranks, and an event of {space.size} values needs each of "
                f"0 to {space.size - 1} once"
            )

    def ranks(self, space: Space) -> np.ndarray:
        """The rank of each value, ``(D,)``."""
        raise NotImplementedError
