"""Residual: an invertible residual block (i-ResNet, Behrmann, Grathwohl, Chen, Duvenaud, Jacobsen 2019,
https://arxiv.org/abs/1811.00995; Residual Flows, Chen et al. 2019, https://arxiv.org/abs/1906.02735)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from laminar.flows.fixed_point import ResidualInverse
from laminar.flows.net.contraction import Contraction
from laminar.flows.numerics import full_precision
from laminar.flows.space import Context, Space, cloned
from laminar.flows.trace.trace import Hand, Trace
from laminar.flows.transform import Transform
from laminar.refused import Refused


class Residual(Transform):
    """z = x + g(x) with a Lipschitz constant of g below 1;  log|det dz/dx| = log det(I + dg/dx), graded by the trace.

    The way back iterates x <- z - g(x), each row until it stands still; its gradient is that of the implicit function.

    Args:
        net: recipe ``(space)`` of g.
        trace: recipe ``()``.
        first: whether it is a flow's first block, whose net sees data and sets no activation before its first map.

    Raises:
        NoContraction: on the way back, where the constant is not below 1.
    """

    closed = False

    def __init__(self, space: Space, net: Callable[..., Contraction], trace: Callable[[], Trace], first: bool = False):
        super().__init__(space, space.within(None))
        kind = getattr(net, "func", net)
        if isinstance(kind, type) and not issubclass(kind, Contraction):
            raise Refused(
                f"net={kind.__module__.rpartition('.')[2]} has no bounded slope, and a residual layer adds what has: choose "
                f"{Contraction.vector_nets if space.is_vector else Contraction.image_nets}"
            )
        self.trace = trace()
        self.trace.check(space, "log_det")
        self.net = net(space, first=True) if first else net(space)

    @property
    def noisy(self) -> bool:
        return self.trace.noisy

    @property
    def biased(self) -> bool:
        return self.trace.biased

    def refresh(self) -> None:
        super().refresh()
        self.net.refresh()

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        if torch.is_inference_mode_enabled():  # what it makes cannot be differentiated, not even for a trace
            with torch.inference_mode(False), torch.no_grad():
                return self.forward(x.clone(), cloned(context))
        field, hand, given = self._field(x, context)
        with full_precision(x):  # of the rows v^T J too: autograd goes back in whatever precision holds then
            y, log_det = self.trace.log_det(
                field, x.flatten(1), given, self.net.beside(), self.training, hand if self.net.carries else None
            )
        return x + y.view_as(x), log_det

    @torch.compiler.disable
    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        field, _, given = self._field(z, context)
        learning = [parameter for parameter in self.net.beside() if parameter.requires_grad]
        return ResidualInverse.apply(field, len(given), z.flatten(1), *given, *learning).view_as(z)

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        x = self.inverse(z, context)
        return x, -self.forward(x, context)[1]

    def _field(self, like: Tensor, context: Context) -> tuple[Callable[..., Tensor], Hand | None, list[Tensor]]:
        """g on flat events ``(x, *given)``, its tangents by hand if it has them, and what is given: the net's weights, bounded
        once, and a context."""
        names = [name for name in self.domain.context if name in (context or {})]
        with full_precision(like):
            weights = self.net.bounded()

        def split(given: Sequence[Tensor]) -> tuple[Context, Sequence[Tensor]]:
            return dict(zip(names, given[len(weights) :], strict=True)), given[: len(weights)]

        def field(x: Tensor, *given: Tensor) -> Tensor:
            with full_precision(x):
                return self.net(x.unflatten(1, self.domain.event), *split(given)).flatten(1)

        def carry(x: Tensor, tangents: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
            with full_precision(x):
                return self.net.carry(x, tangents, *split(given))

        def linearised(x: Tensor, *given: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
            with full_precision(x), torch.no_grad():
                return self.net.linearised(x, *split(given))

        return field, Hand(carry, linearised) if self.net.carries else None, [*weights, *(context[name] for name in names)]
