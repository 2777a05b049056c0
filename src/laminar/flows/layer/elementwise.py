"""Elementwise: a law with free parameters, the same for every event."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from laminar.flows.coupling.law import Law
from laminar.flows.layer.parameters import planes
from laminar.flows.numerics import sum_event
from laminar.flows.space import Context, Space
from laminar.flows.transform import Transform
from laminar.refused import Refused


class Elementwise(Transform):
    """z = law(x; params), with parameters that are learned themselves: one set per element, or per channel.

    NICE's final diagonal scaling, 1-D CDF flows, and Glow's learned top prior (per channel) are of this kind. With
    ``conditional`` the parameters add a linear map of the vectors in the context, zero at the start: a top that knows the
    class.
    """

    def __init__(self, space: Space, law: Callable[[], Law], per: str = "element", conditional: bool = False):
        super().__init__(space)
        if per not in ("element", "channel"):
            raise Refused(f"per is element or channel, not {per!r}")
        self.law = law()
        self.codomain = self.law.onto(space)
        shape = space.event if per == "element" else (space.event[0], *[1] * (len(space.event) - 1))
        self.params = planes(self.law, *shape)
        self.names = [name for name, event in space.context.items() if len(event) == 1] if conditional else []
        self.shift = None
        if self.names:
            self.shift = nn.Linear(sum(space.context[name][0] for name in self.names), self.params.numel(), bias=False)
            nn.init.zeros_(self.shift.weight)

    def _params(self, like: Tensor, context: Context) -> Tensor:
        params = self.params[None]
        if self.shift is not None:
            seen = torch.cat([context[name] for name in self.names], 1).to(self.shift.weight.dtype)
            params = params + self.shift(seen).view(-1, *self.params.shape)
        return params.to(like.dtype).expand(len(like), -1, *like.shape[1:])

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        z, log_slope = self.law(x, self._params(x, context))
        return z, sum_event(log_slope)

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        return self.law.inverse(z, self._params(z, context))

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        params = self._params(z, context)
        x = self.law.inverse(z, params)
        return x, -sum_event(self.law(x, params)[1])
