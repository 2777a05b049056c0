"""Elementwise: a law with free parameters, the same for every event, or with those that a net reads from the context."""

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor, nn

from laminar.flows.coupling.law import Law
from laminar.flows.guidance import steered
from laminar.flows.layer.parameters import begin, planes, spread
from laminar.flows.net.net import Net
from laminar.flows.numerics import sum_event
from laminar.flows.space import Context, Space
from laminar.flows.transform import Transform
from laminar.refused import Refused


class Elementwise(Transform):
    """z = law(x; params), with parameters that are learned themselves: one set per element, or per channel.

    NICE's final diagonal scaling, 1-D CDF flows, and Glow's learned top prior (per channel) are of this kind. With
    ``conditional`` the parameters add a linear map of the vectors in the context, zero at the start: a top that knows the
    class.

    Args:
        net: recipe ``(seen, asked, arity)`` that makes the parameters in place of free ones: it sees the vectors in the
            context, one after another, and a single zero where there are none.
    """

    def __init__(
        self,
        space: Space,
        law: Callable[[], Law],
        per: str = "element",
        conditional: bool = False,
        net: Callable[..., Net] | None = None,
    ):
        super().__init__(space)
        if per not in ("element", "channel"):
            raise Refused(f"per is element or channel, not {per!r}")
        self.law = law()
        self.codomain = self.law.onto(space)
        shape = space.event if per == "element" else (space.event[0], *[1] * (len(space.event) - 1))
        self.names = [name for name, event in space.context.items() if len(event) == 1] if conditional or net else []
        width = sum(space.context[name][0] for name in self.names)
        self.net = self.shift = None
        if net is not None:
            self.net, self.shape = net(Space((width or 1,)), Space((prod(shape),)), self.law.arity), shape
            self.shared = begin(self.law, self.net)
            return
        self.params = planes(self.law, *shape)
        if self.names:
            self.shift = nn.Linear(width, self.law.arity * prod(shape), bias=False)
            nn.init.zeros_(self.shift.weight)

    def _params(self, like: Tensor, context: Context) -> tuple[Tensor, ...]:
        if self.net is not None:
            seen = torch.cat([context[name] for name in self.names], 1) if self.names else like.new_zeros(1, 1)
            params = self.net(seen.to(like.dtype)).to(like.dtype).unflatten(2, self.shape)
            return steered(params.expand(len(like), -1, *like.shape[1:])), *spread(self.shared, like)
        params, shared = self.params.to(like.dtype).split([self.law.arity, self.law.shared])
        if self.shift is not None:
            seen = torch.cat([context[name] for name in self.names], 1).to(self.shift.weight.dtype)
            params = params + self.shift(seen).to(like.dtype).view(-1, *params.shape)
        return steered(params.expand(len(like), -1, *like.shape[1:])), *([shared] if self.law.shared else [])

    @property
    def closed(self) -> bool:
        return self.law.closed

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        z, log_slope = self.law(x, *self._params(x, context))
        return z, sum_event(log_slope)

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        return self.law.inverse(z, *self._params(z, context))

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        params = self._params(z, context)
        x = self.law.inverse(z, *params)
        return x, -sum_event(self.law(x, *params)[1])
