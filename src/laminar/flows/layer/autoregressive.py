"""Autoregressive: a law whose parameters are read from the values before (MAF, https://arxiv.org/abs/1705.07057)."""

from collections.abc import Callable

from torch import Tensor

from laminar.flows.coupling.law import Law
from laminar.flows.layer.parameters import begin, join
from laminar.flows.net.causal import Causal
from laminar.flows.numerics import sum_event
from laminar.flows.order.order import Order
from laminar.flows.space import Context, Space
from laminar.flows.transform import Transform
from laminar.refused import Refused


class Autoregressive(Transform):
    """z_i = law(x_i; net(x_j of lower rank)), every value of the event at once; log-det = sum_i of the log-slopes.

    x is found value after value, in the order's ranks, at the cost of one pass of the net in total: see ``Causal``. With an
    affine law it is MAF's layer, under ``compose/inverse`` IAF's; with another law the neural autoregressive flow's, the
    autoregressive spline flow's, and so on.

    Args:
        law: recipe ``()``.
        net: recipe ``(seen, asked, arity, order=)`` of a causal conditioner.
        order: recipe ``(space)``: which values come before which.
    """

    def __init__(self, space: Space, law: Callable[[], Law], net: Callable[..., Causal], order: Callable[[Space], Order]):
        super().__init__(space)
        kind = getattr(net, "func", net)
        if isinstance(kind, type) and not issubclass(kind, Causal):
            raise Refused(
                f"net={kind.__module__.rpartition('.')[2]} lets every parameter see every value, and an autoregressive layer "
                "needs one that sees the values before it alone: choose net=made"
            )
        self.law = law()
        if space.size == 1 and self.law.linear and not space.context:
            raise Refused(
                "an affine autoregressive flow of a single value is a Gaussian, whatever its depth: choose a law that bends, "
                "coupling=rational_quadratic or coupling=mixture_logistic"
            )
        self.codomain = self.law.onto(space)
        flat = space.flattened()
        self.net = net(flat, flat, self.law.arity, order=order(space))
        self.shared = begin(self.law, self.net)

    def params(self, x: Tensor, context: Context) -> Tensor:
        """``(B, arity + shared, *event)``."""
        params = self.net(x.flatten(1), context).to(x.dtype)
        return join(params.unflatten(2, self.domain.event), self.shared)

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        z, log_slope = self.law(x, self.params(x, context))
        return z, sum_event(log_slope)

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        def solve(z: Tensor, params: Tensor) -> Tensor:
            return self.law.inverse(z, join(params.to(z.dtype), self.shared))

        return self.net.sequential(solve, z.flatten(1), context).view_as(z)

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        x = self.inverse(z, context)
        return x, -self.forward(x, context)[1]
