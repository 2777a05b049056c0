"""OneWay: a bijection without a formula for its inverse, for posteriors, which nobody asks for one."""

from collections.abc import Callable, Sequence
from typing import NoReturn

import torch
from torch import Tensor, nn

from laminar.flows.net.net import Net
from laminar.flows.space import Context, Space
from laminar.flows.transform import Transform
from laminar.refused import Refused


class OneWay(Transform):
    """z = f(x; params) on vectors ``(B, D)``; ``inverse`` refuses.

    ``params`` are learned themselves; a net may add what it reads from the vectors in the context: an amortized posterior.

    Args:
        start: where the parameters begin, in the parts that ``params`` gives.
        net: recipe ``(seen, asked, arity)`` of that net.
    """

    closed = False

    def __init__(self, space: Space, start: Sequence[Tensor], net: Callable[..., Net] | None = None):
        super().__init__(space, space.within(None))
        if not space.is_vector:
            raise Refused(f"layer={self.page} moves vectors, and an event here has the shape {space.event}: flatten it first")
        self.names = [name for name, event in space.context.items() if len(event) == 1]
        if net is not None and not self.names:
            raise Refused(f"layer.net of layer={self.page} reads the vectors in the context, and there are none: leave it out")
        self.sizes, self.free = [len(part) for part in start], nn.Parameter(torch.cat([*start]))
        width = sum(space.context[name][0] for name in self.names)
        self.net = net and net(Space((width,)), Space((len(self.free),)), 1)

    @property
    def page(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    def params(self, x: Tensor, context: Context) -> tuple[Tensor, ...]:
        """``(B, n)``, or ``(1, n)`` where all rows share them, for each of ``start``."""
        params = self.free.to(x.dtype)[None]
        if self.net is not None:
            params = params + self.net(torch.cat([context[name] for name in self.names], 1).to(x.dtype)).squeeze(1).to(x.dtype)
        return params.split(self.sizes, 1)

    def inverse(self, z: Tensor, context: Context = None) -> NoReturn:
        raise Refused(
            f"layer={self.page} has no inverse in closed form: it goes from the noise to z in a posterior "
            f"(posterior={self.page}), where none is asked for"
        )

    inverse_with_log_det = inverse
