"""Law: an elementwise bijection whose parameters come from outside."""

import torch
from torch import Tensor

from laminar.flows.space import Space


class Law:
    """y = f(x; params), elementwise and increasing or decreasing in x. Stateless.

    ``params`` are planes of shape ``(B, arity + shared, *event)``: the first ``arity`` come from a conditioner, the last
    ``shared`` from parameters that the layer owns. They are unconstrained; the law maps them into its range.

    Attributes:
        arity: parameters per element that the conditioner gives.
        shared: parameters per element that the layer learns once for all elements.
        linear: whether y is an affine function of x, so that one value alone stays a Gaussian, however many laws move it.
    """

    arity: int
    shared: int = 0
    linear: bool = False

    def start(self, generator: torch.Generator) -> Tensor:
        """Parameters ``(arity + shared,)`` to begin training from: near the identity, exchangeable components apart."""
        return torch.zeros(self.arity + self.shared)

    def onto(self, space: Space) -> Space:
        """The Space of y for x in ``space``, whatever the parameters: all reals, unless a law keeps within a range."""
        return space.within(None)

    def __call__(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """y and log|dy/dx|, both of x's shape ``(B, *event)``."""
        raise NotImplementedError

    def inverse(self, y: Tensor, params: Tensor) -> Tensor:
        """x such that f(x; params) = y."""
        raise NotImplementedError
