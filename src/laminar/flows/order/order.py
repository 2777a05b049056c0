"""Order: which values of an event may inform which. What an autoregressive layer is swept over, as couplings are over masks."""

import numpy as np

from laminar.flows.space import Space
from laminar.refused import Refused


class Order:
    """A rank for each value: a value's parameters are computed from values of lower rank, and from no others.

    Here from all of them; in a graph (``order=dag``) from some. What follows speaks of values by their rank, and holds for
    arrays of ranks as well. Recipe ``(space)``. Stateless, and a function of its options alone, so that a checkpoint meets the
    same masks again.

    Attributes:
        rank: int64 ``(D,)``, a permutation of 0 .. D-1, in the event's row-major order.
        kinds: the different sets of values that are seen, each told by one rank that sees it, in the order of their ``last``.
        last: int64 ``(D,)``, the highest rank that each rank sees, -1 where it sees none.
        total: whether every value sees all values of lower rank.
    """

    total = True

    def __init__(self, space: Space):
        self.space = space
        self.rank = self.ranks(space)
        if sorted(self.rank.tolist()) != list(range(space.size)):
            name = type(self).__module__.rpartition(".")[2]
            raise Refused(
                f"order={name} gives an order of {len(self.rank)} ranks, and an event of {space.size} values needs each of "
                f"0 to {space.size - 1} once"
            )
        self.kinds = np.arange(space.size)
        self.last = np.arange(space.size) - 1

    def ranks(self, space: Space) -> np.ndarray:
        """The rank of each value, ``(D,)``."""
        raise NotImplementedError

    def sees(self, rank: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Whether the value at a rank sees the value at another."""
        return other < rank

    def within(self, rank: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Whether the value at another rank sees all that the value at a rank sees."""
        return rank <= other
