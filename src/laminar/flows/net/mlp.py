"""MLP: fully connected layers. NICE (Dinh, Krueger, Bengio 2014) uses 4 or 5 of 1000 to 5000 units."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from laminar.flows.net.net import Net, in_place, near_zero
from laminar.flows.space import Context


class MLP(Net):
    """``depth`` hidden layers of ``width`` units: vectors ``(B, D) -> (B, arity, D')``; context is appended to the input."""

    rank = 1

    def __init__(
        self,
        *task: Any,
        width: int = 256,
        depth: int = 2,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ):
        super().__init__(*task)
        widths = [self.seen.size + self.reader.channels] + [width] * depth
        self.body = nn.Sequential(*(part for a, b in pairwise(widths) for part in (nn.Linear(a, b), in_place(activation()))))
        self.head = near_zero(nn.Linear(widths[-1], self.outputs))

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        return self.head(self.body(self.reader(x, context))).unflatten(1, (self.arity, -1))
