"""Nothing: rows without data, for a flow that is drawn towards a density instead (``objective=reverse_kl``)."""

import numpy as np

from laminar.data.toys import Toy
from laminar.refused import Refused

MOST = 2**20  # values of an event


class Nothing(Toy):
    """Row numbers, behind which a flow's own draws stand. Their values are N(0, I), float32 ``(N, dims)``: where flows that
    are set by data begin. They are not learnt and not scored; of ``test_size`` draws come the numbers of the end.

    Args:
        dims: of the events that the flow draws.
    """

    empty = True

    def __init__(self, *, dims: int = 2, **serving):
        super().__init__(**serving)
        if not 1 <= dims <= MOST:
            raise Refused(f"data.dims={dims} is no event: take 1 to {MOST:,}")
        self.dims = dims

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return rng.standard_normal((n, self.dims))
