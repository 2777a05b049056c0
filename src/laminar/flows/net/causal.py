"""Causal: a conditioner whose answer for a value depends on the values before it alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from laminar.flows.net.net import Net
from laminar.flows.order.order import Order
from laminar.flows.space import Context, Space, rows_of
from laminar.refused import Refused

Solve = Callable[[Tensor, Tensor], Tensor]  # (z_i (B, n), params (B, arity, n)) -> x_i (B, n)


class Causal(Net):
    """``(B, *event) -> (B, arity, *event)``: the parameters at a step are a function of the values of the steps before it.

    A step is one value, or all n channels of one position. The way back from z to x asks for one step after another. A member
    answers it with one pass of its work in total, by keeping what it has computed (``sequential``); nothing outlives the call.

    Args:
        order: recipe ``(space)`` of the ranks of the steps, cooked with ``steps()``.

    Attributes:
        ranks, places: of each step its rank, and of each rank its step.
        graphs: whether it can follow an order in which a value does not see all values of lower rank.
    """

    vector_nets, image_nets = "net=made", "net=pixelcnn or net=made"
    graphs = False

    def __init__(self, *task: Any, order: Callable[[Space], Order] | None = None):
        super().__init__(*task)
        if order is None:
            name = type(self).__module__.rpartition(".")[2]
            raise Refused(f"net={name} goes through values in an order, which only layer=autoregressive has: choose net=mlp")
        self.order = order(self.steps())
        if not self.order.total and not self.graphs:
            name, graph = (type(part).__module__.rpartition(".")[2] for part in (self, self.order))
            raise Refused(f"net={name} sees all that comes before a value, and order={graph} only some of it: choose net=made")
        self.register_buffer("ranks", torch.tensor(self.order.rank), persistent=False)
        self.register_buffer("places", torch.tensor(self.order.rank.argsort()), persistent=False)

    def steps(self) -> Space:
        """What the net walks through, one value for each step: the positions of an image, or the values of a vector."""
        return Space((1, *self.seen.event[1:])) if self.seen.is_image else self.seen

    def sequential(self, solve: Solve, z: Tensor, context: Context = None) -> Tensor:
        """x ``(B, *event)`` with x_i = solve(z_i, parameters of step i given x)."""
        raise NotImplementedError

    def ahead(self, context: Context) -> "Ahead":
        """For one way back of all steps at once: see ``jacobi``."""
        return Ahead(self, context)


class Ahead:
    """A net's parameters from some step on, for the rows that still need them. A net that can start there has its own."""

    def __init__(self, net: Causal, context: Context):
        self.net, self.context = net, context

    def window(self, x: Tensor) -> int:
        """How many steps are worth asking for at once, of values x ``(B, n, T)``."""
        return x.shape[2]

    def __call__(self, x: Tensor, since: int, until: int) -> Tensor:
        """Those of the steps ``since`` to ``until``, ``(B, arity, n, steps)``, for values x ``(B, n, T)`` in the order."""
        params = self.net(x[:, :, self.net.ranks].reshape(len(x), *self.net.seen.event), self.context)
        return params.reshape(*params.shape[:2], -1, x.shape[2])[..., self.net.places[since:until]]

    def drop(self, rows: Tensor) -> None:
        """These need no more, bool ``(B,)``."""
        self.context = rows_of(self.context, ~rows, rows.device)

    def keep(self, steps: int) -> None:
        """The first ``steps`` values of all rows will stay as they were in the last call."""


@contextmanager
def unthreaded(like: Tensor, work: float) -> Iterator[None]:
    """Inside, steps of less than a million multiplications each (``work``) keep to the thread that asks: to wake the others of
    a CPU costs more than they save. The setting is the calling thread's own, and it gets it back."""
    threads = 1 if torch.compiler.is_compiling() or like.device.type != "cpu" else torch.get_num_threads()
    few = threads > 1 and work < 2**20
    if few:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if few:
            torch.set_num_threads(threads)
