"""Columns: a table's columns as context, p(the other columns | these)."""

import torch
from torch import Tensor, nn

from laminar.flows.initialise import SetByData
from laminar.flows.numerics import merged, moments
from laminar.flows.space import Context, Space
from laminar.refused import Refused


class Columns(nn.Module):
    """Vectors under their columns' names ``(B, n)``, standardised by the training rows: what every part sees.

    A flow of data that come with nothing is unconditional.
    """

    def __init__(self, space: Space):
        super().__init__()
        self.codomain = space
        self.scales = nn.ModuleList(Scale(shape) for shape in space.context.values())

    def forward(self, context: Context) -> Context:
        names = list(self.codomain.context)
        if not names:
            return None
        missing = [name for name in names if name not in (context or {})]
        if missing:
            raise Refused(f"this flow is conditional on {', '.join(names)}, and {', '.join(missing)} was not given: give it")
        return {name: scale(context[name]) for name, scale in zip(names, self.scales, strict=True)}

    def nothing(self, seen: Context) -> Context:
        raise Refused("guidance is for flows that know a class, and this one knows columns: leave it at 0")


class Scale(SetByData):
    """(x - mean) / deviation of all rows that it is shown, per element; 0 where they do not vary."""

    thorough = True

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("slope", torch.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        if self.unset():
            count, mean, squares = self.gather(moments(x), merged)
            scale = (squares / count).sqrt()
            self.mean.copy_(mean)
            self.slope.copy_(torch.where(scale > 0, 1 / scale, 0.0))
            self.settle()
        return (x.to(self.mean.dtype) - self.mean) * self.slope
