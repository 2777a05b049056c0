"""Observation: how each stored value is distributed, once a decoder has spoken."""

import torch
from torch import Tensor

from laminar.flows import noise
from laminar.flows.numerics import sum_event
from laminar.flows.space import Space
from laminar.refused import Refused


class Observation:
    """p(x | params), independent from value to value. Stateless; x are stored values, in floating point.

    ``params`` are unconstrained planes ``(B, arity + shared, *event)``, as a law's are; any number of values may be asked for
    at once.

    Attributes:
        arity: parameters of each value, which a decoder gives.
        shared: parameters that are one for all values, which the layer learns; their planes come last.
        start: what these begin at.
    """

    arity: int
    shared: int = 0
    start: float = 0.0

    def __init__(self, space: Space):
        self.levels = space.levels

    def log_probs(self, x: Tensor, params: Tensor) -> Tensor:
        """log p of each value in nats, of x's shape ``(B, *event)``."""
        raise NotImplementedError

    def quantile(self, u: Tensor, params: Tensor) -> Tensor:
        """The stored value below which p has the mass u in [0, 1), of u's shape: uniform u make a draw, 1/2 the median."""
        raise NotImplementedError

    def mean(self, params: Tensor) -> Tensor:
        """E[x], ``(B, *event)``; for integers that is none of the values that occur."""
        raise NotImplementedError

    def log_prob(self, x: Tensor, params: Tensor) -> Tensor:
        """log p(x | params) in nats, ``(B,)``."""
        return sum_event(self.log_probs(x, params))

    def sample(self, params: Tensor) -> Tensor:
        """A draw, ``(B, *event)``; under ``noise.centre()`` the median, which is a value that occurs."""
        return self.quantile(noise.uniform(torch.empty_like(params[:, 0])), params)


class Integers(Observation):
    """Of integers 0 .. levels-1, as they are stored: nothing dequantizes them."""

    levels: int

    def __init__(self, space: Space):
        super().__init__(space)
        name = type(self).__module__.rpartition(".")[2]
        if space.levels is None:
            raise Refused(
                f"observation={name} scores integers, and what comes to it are real numbers: put no dequantizer before the "
                "layer, or choose observation=gaussian for real-valued data"
            )
        if isinstance(space.levels, tuple):
            raise Refused(f"observation={name} takes integers of one number of levels, and these columns have {space.levels}")
