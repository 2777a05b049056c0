"""Contraction: what a residual layer adds to its event, g with a Lipschitz constant below 1."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from laminar.flows.net.net import Net
from laminar.flows.net.spectral import Spectral, SpectralConv, SpectralLinear
from laminar.flows.space import Context, Space
from laminar.refused import Refused


class Contraction(Net):
    """x ``(B, *event)`` -> g(x) of the same shape. Its task is the space alone.

    Its linear maps are ``Spectral``, its activations have slopes of at most 1, so that the constant is at most a product of the
    maps' coefficients. A context is seen beside x, and is held by the same bound.

    Args:
        flat: whether it sees its events as vectors.
        coefficient: of each linear map, below 1.
        iterations, tolerance: of their power iterations, see ``Spectral``.

    Attributes:
        carries: whether ``carry`` and ``linearised`` are there, tangents by hand, which are cheaper than autograd's.
    """

    carries = False

    vector_nets, image_nets = "net=lipschitz_mlp", "net=lipschitz"

    def __init__(
        self,
        space: Space,
        *task: Any,
        coefficient: float = 0.98,
        iterations: int = 5,
        tolerance: float = 1e-5,
        flat: bool = False,
    ):
        name = type(self).__module__.rpartition(".")[2]
        if task:
            raise Refused(f"net={name} is what layer=residual adds to its event, and no other layer reads it: choose net=mlp")
        if not 0 < coefficient < 1:
            raise Refused(
                f"net.coefficient={coefficient} bounds the Lipschitz constant of what a residual layer adds, and only below 1 "
                "there is an inverse: give a number between 0 and 1 (0.98)"
            )
        if iterations < 1 or not tolerance > 0:
            raise Refused(f"net.iterations={iterations} and net.tolerance={tolerance} are 1 or more, and above 0")
        super().__init__(space.flattened() if flat else space, space, 1)
        self.options = coefficient, iterations, tolerance

    @property
    def spectral(self) -> Iterator[Spectral]:
        return (part for part in self.modules() if isinstance(part, Spectral))

    def bounded(self) -> list[Tensor]:
        """The weights W' of its linear maps, with their gradients: made once for each pass, however often x is asked for."""
        return [part.bounded() for part in self.spectral]

    def beside(self) -> list[nn.Parameter]:
        """All other parameters: biases, and what activations learn."""
        weights = {id(part.weight) for part in self.spectral}
        return [parameter for parameter in self.parameters() if id(parameter) not in weights]

    def refresh(self) -> None:
        for part in self.spectral:
            part.refresh()

    def forward(self, x: Tensor, context: Context = None, weights: Sequence[Tensor] | None = None) -> Tensor:
        weights = self.bounded() if weights is None else weights
        return self.through(x.flatten(1).unflatten(1, self.seen.event), context, iter(weights)).reshape(x.shape)

    def through(self, x: Tensor, context: Context, weights: Iterator[Tensor]) -> Tensor:
        """g(x) of the shape that the net sees, by the linear maps' weights in the order of ``spectral``."""
        raise NotImplementedError

    def carry(
        self, x: Tensor, tangents: Tensor, context: Context = None, weights: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """g(x) of flat events ``(B, D)`` and J v for tangents v ``(K, 1, D)``: ``(B, D)`` and ``(K, B, D)``."""
        raise NotImplementedError

    def linearised(
        self, x: Tensor, context: Context = None, weights: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """g(x) of flat events ``(B, D)``, and tangents ``(K, B, D)`` -> J tangents; for where no gradient is recorded."""
        raise NotImplementedError

    def linear(self, before: int, after: int, kernel: int = 1) -> Spectral:
        """A map between so many values, or channels of an image."""
        if self.seen.is_image:
            return SpectralConv(before, after, kernel, self.seen.event[1:], *self.options)
        return SpectralLinear(before, after, *self.options)
