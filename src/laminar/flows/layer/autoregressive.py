"""Autoregressive: a law whose parameters are read from the values before (MAF, https://arxiv.org/abs/1705.07057)."""

from collections.abc import Callable

import torch
from torch import Tensor

from laminar.flows.coupling.law import Law
from laminar.flows.guidance import steered
from laminar.flows.layer.parameters import begin, spread
from laminar.flows.net.causal import Causal
from laminar.flows.net.jacobi import jacobi
from laminar.flows.net.net import drops
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
        order: recipe ``(space)``: which values, or positions of an image, come before which.
        inverse: ``sequential`` finds step after step, in one pass of the net; ``jacobi`` all steps at once, in as many passes
            as it takes until nothing changes. The same x; which is faster depends on the net, the machine and the batch.
        tolerance: for jacobi, a relative change that counts as none; 0 for rounding.
    """

    closed = False

    def __init__(
        self,
        space: Space,
        law: Callable[[], Law],
        net: Callable[..., Causal],
        order: Callable[[Space], Order],
        inverse: str = "sequential",
        tolerance: float = 0.0,
    ):
        super().__init__(space)
        self.decode_by(inverse, tolerance)
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
        self.net = net(space, space, self.law.arity, order=order)
        self.shared, self.drops = begin(self.law, self.net), drops(self.net)

    def params(self, x: Tensor, context: Context) -> tuple[Tensor, ...]:
        """The law's: ``(B, arity, *event)`` of the net, and the shared ones if there are any."""
        return self.net(x, context).to(x.dtype), *spread(self.shared, x)

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        z, log_slope = self.law(x, *self.params(x, context))
        return z, sum_event(log_slope)

    def decode_by(self, inverse: str, tolerance: float = 0.0) -> None:
        """Chooses how x is found, for calls to come."""
        if inverse not in ("sequential", "jacobi"):
            raise Refused(f"inverse is sequential or jacobi, not {inverse!r}")
        if tolerance < 0:
            raise Refused(f"tolerance={tolerance} can never be met: take 0, for rounding, or more")
        self.decoding, self.tolerance = inverse, tolerance

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        def solve(z: Tensor, params: Tensor) -> Tensor:
            return self.law.inverse(z, steered(params.to(z.dtype)), *spread(self.shared, z))

        if self.drops and self.training:
            raise Refused(
                "net.dropout makes an autoregressive layer another map each time that its net is asked, and the way back asks "
                "more than once: take net.dropout=0, or flow.eval()"
            )
        learning = torch.is_grad_enabled()
        if learning and self.decoding == "sequential":
            return self.net.sequential(solve, z, context)
        # Many small operations: without version counters each costs a third less. A compiler cannot do without.
        with torch.no_grad() if torch.compiler.is_compiling() else torch.inference_mode():
            at_once = self.decoding == "jacobi"
            x = jacobi(self.net, solve, z, context, self.tolerance) if at_once else self.net.sequential(solve, z, context)
        x = x if torch.is_inference_mode_enabled() else x.clone()
        return self._implicit(x, z, context) if learning else x

    def _implicit(self, x: Tensor, z: Tensor, context: Context) -> Tensor:
        """x, found without gradient, given that of f(x) = z: dx = J^-1 (dz - df), J being triangular in the order.

        The transposed system is solved as x was found, by rounds that set all steps at once: at most as many as steps.
        """
        x = x.requires_grad_()
        params, *shared = self.params(x, context)
        again, log_slope = self.law(x, params, *shared)
        (own,) = torch.autograd.grad(self.law(x, params.detach(), *shared)[0].sum(), x)  # J's diagonal as autograd has it,
        slope = torch.copysign(log_slope.detach().clamp(min=-20).exp(), own)  # and as the law says, which no clamp cuts off

        def solve(gradient: Tensor) -> Tensor:
            found = gradient / slope
            for _ in range(self.net.steps().size - 1):
                (told,) = torch.autograd.grad(again, x, found, retain_graph=True)
                last, found = found, (gradient - (told - own * found)) / slope
                if bool(((found - last).abs() <= 8 * torch.finfo(found.dtype).eps * found.abs()).all()):
                    break
            return found

        missing = z - again
        missing.register_hook(solve)
        return x.detach() + (missing - missing.detach())

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        x = self.inverse(z, context)
        return x, -self.forward(x, context)[1]
