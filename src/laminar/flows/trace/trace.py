"""Trace: what a layer whose log-det has no closed form asks of the Jacobian J of its net."""

from collections.abc import Callable

import torch
from torch import Tensor

from laminar.flows.space import Space

Field = Callable[[Tensor], Tensor]  # x (B, D) -> y (B, D)
Carry = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # x, tangents (B or 1, K, D) -> y, J tangents (B, K, D)


class Trace:
    """tr J of a map x -> y, both ``(B, D)``, each row for itself.

    Attributes:
        noisy: whether the number is an unbiased estimate.
    """

    noisy = False

    def check(self, space: Space) -> None:
        """Refuses a space that it is not for."""

    def draw(self, x: Tensor) -> Tensor | None:
        """What an estimate is made with, ``(B, K, D)``: drawn once for each likelihood, so that all its steps see the same."""
        return None

    def __call__(
        self, field: Field, x: Tensor, probes: Tensor | None, carry: Carry | None = None, norm: bool = False
    ) -> tuple[Tensor, ...]:
        """y ``(B, D)``, tr J ``(B,)``, and with ``norm`` ||J||^2 ``(B,)`` (Frobenius's; an estimate where the trace is).

        All are differentiable where gradients are recorded. With ``carry`` the map pushes tangents itself, which is cheaper
        than autograd.
        """
        raise NotImplementedError


class Pulled:
    """y = field(x), and v -> v^T J by autograd, also where no gradient is recorded."""

    def __init__(self, field: Field, x: Tensor):
        self.recording = torch.is_grad_enabled()
        with torch.enable_grad():
            self.x = x if self.recording and x.requires_grad else x.detach().requires_grad_()
            self.y = field(self.x)

    def __call__(self, v: Tensor) -> Tensor:
        (row,) = torch.autograd.grad(self.y, self.x, v, create_graph=self.recording, retain_graph=True)
        return row

    def end(self) -> Tensor:
        return self.y if self.recording else self.y.detach()
