"""Causal: a conditioner whose answer for a value depends on the values before it alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from laminar.flows.net.net import Net
from laminar.flows.order.order import Order
from laminar.flows.space import Context
from laminar.refused import Refused

Solve = Callable[[Tensor, Tensor], Tensor]  # (z_i (B, 1), params (B, arity, 1)) -> x_i (B, 1)


class Causal(Net):
    """Vectors ``(B, D) -> (B, arity, D)``: the parameters of value i are a function of the values of lower rank.

    The way back from z to x asks for one value after another. A member answers it with one pass of its work in total, by
    keeping what it has computed (``sequential``); nothing outlives the call.

    Attributes:
        order: the ranks.
    """

    rank = 1

    def __init__(self, *task: Any, order: Order | None = None):
        super().__init__(*task)
        if order is None:
            name = type(self).__module__.rpartition(".")[2]
            raise Refused(f"net={name} goes through values in an order, which only layer=autoregressive has: choose net=mlp")
        self.order = order

    def sequential(self, solve: Solve, z: Tensor, context: Context = None) -> Tensor:
        """x ``(B, D)`` with x_i = solve(z_i, parameters of i given x)."""
        raise NotImplementedError


class _MaskedGradient(torch.autograd.Function):
    """A weight as it is; its gradient without the masked entries, so that they stay the zeros that they were born as."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(mask)
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return gradient * mask, None


class MaskedLinear(torch.nn.Linear):
    """A linear layer some of whose weights are, and stay, zero. The mask costs a product in the backward pass alone.

    Args:
        mask: bool ``(after, before)``, true where there is a weight.
    """

    def __init__(self, mask: np.ndarray):
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", torch.from_numpy(mask).to(self.weight.device), persistent=False)
        self.clean()

    @torch.no_grad()
    def clean(self) -> "MaskedLinear":
        self.weight *= self.mask
        return self

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.linear(x, self.free(), self.bias)

    def free(self) -> Tensor:
        """The weights, whose gradient passes the mask."""
        return _MaskedGradient.apply(self.weight, self.mask)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.clean()  # no file makes a value see what comes after it
