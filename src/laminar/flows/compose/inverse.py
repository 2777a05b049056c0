"""Inverse: a transform walked backwards, so that its cheap direction is the other one."""

from torch import Tensor

from laminar.flows.space import Context, Space
from laminar.flows.transform import Recipe, Transform
from laminar.refused import Refused


class Inverse(Transform):
    """z = f^-1(x), for a bijection f of ``space`` onto itself or onto a range of the same shape."""

    def __init__(self, space: Space, transform: Recipe):
        inner = transform(space.within(None))
        if inner.stochastic or not inner.invertible:
            raise Refused(
                f"Inverse needs a bijection, and {type(inner).__name__} draws on its way: leave it out of the inverse"
            )
        if inner.codomain.event != space.event:
            raise Refused(
                f"Inverse needs a transform that keeps the shape, and this one takes {space.event} to {inner.codomain.event}"
            )
        super().__init__(space, inner.domain)
        self.transform = inner

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self.transform.inverse_with_log_det(x, context)

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        return self.transform(z, context)[0]

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self.transform(z, context)
