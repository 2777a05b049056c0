"""Law: an elementwise bijection whose parameters come from outside."""

import torch
from torch import Tensor

from laminar.flows.space import Space
from laminar.refused import Refused


class Law:
    """y = f(x; params, shared), elementwise and increasing or decreasing in x. Stateless.

    ``params`` are planes of shape ``(B, arity, *event)``, which a conditioner gives: each element has its own. ``shared`` are
    what the layer learns beside it, ``(shared, 1, .., 1)`` once for all elements, or ``(shared, *event)`` (a channel's may
    stand for its positions); not given where the law shares nothing. Both are unconstrained; the law maps them into its range.

    Attributes:
        arity: parameters per element that the conditioner gives.
        shared: parameters that the layer learns.
        closed: whether its inverse is a formula, as accurate as the law itself.
        linear: whether y is an affine function of x, so that one value alone stays a Gaussian, however many laws move it.
    """

    arity: int
    shared: int = 0
    closed: bool = True
    linear: bool = False

    def start(self, generator: torch.Generator) -> Tensor:
        """Parameters ``(arity + shared,)`` to begin training from: near the identity, exchangeable components apart."""
        return torch.zeros(self.arity + self.shared)

    def onto(self, space: Space) -> Space:
        """The Space of y for x in ``space``, whatever the parameters: all reals, unless a law keeps within a range."""
        return space.within(None)

    def __call__(self, x: Tensor, params: Tensor, shared: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y and log|dy/dx|, both of x's shape ``(B, *event)``."""
        raise NotImplementedError

    def inverse(self, y: Tensor, params: Tensor, shared: Tensor | None = None) -> Tensor:
        """x such that f(x; params, shared) = y. A law without it scores data, and refuses to sample."""
        raise Refused(
            f"{type(self).__name__} has no inverse, so this flow scores data and draws none: to sample choose another coupling "
            "(coupling=rational_quadratic), or turn its layers round (flow=iaf)"
        )
