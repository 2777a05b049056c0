"""Transform: the one contract. Every stop between stored data and noise is one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn, no_grad

from laminar.flows.space import Context, Space


class Transform(nn.Module):
    """A stop on the way from data x to noise z.

    ``forward``              x -> z, with the stop's contribution to log p(x) in nats, shape (B,)
    ``inverse``              z -> x, without a log-det
    ``inverse_with_log_det`` z -> x, with log|det dx/dz|, shape (B,)

    For a bijection the contribution is log|det dz/dx|, and ``inverse_with_log_det`` gives its negative. A ``stochastic``
    transform draws on its way: its contribution makes log p(x) a lower bound, and it has no inverse log-det. A ``noisy``
    one contributes an unbiased estimate.

    Attributes:
        domain: the Space of x.
        codomain: the Space of z.
    """

    stochastic: bool = False
    noisy: bool = False

    def __init__(self, domain: Space, codomain: Space | None = None):
        super().__init__()
        self.domain = domain
        self.codomain = codomain or domain

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        raise NotImplementedError

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        if self.stochastic:
            raise TypeError(f"{type(self).__name__} draws on its way, so its inverse has no log-det")
        raise NotImplementedError


Recipe = Callable[[Space], Transform]

_initialising = False


@contextmanager
def initialising() -> Iterator[None]:
    """Inside, a forward pass lets parts that look at data (actnorm, data-dependent convolutions) set themselves once.

    Each part sees an input that has passed through the already initialised parts before it. No gradients.
    """
    global _initialising
    _initialising = True
    try:
        with no_grad():
            yield
    finally:
        _initialising = False


def is_initialising() -> bool:
    return _initialising
