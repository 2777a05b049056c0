"""Trace: what a layer whose log-det has no closed form asks of the Jacobian J of its net."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from laminar.flows.space import Space
from laminar.refused import Refused

Field = Callable[[Tensor], Tensor]  # x (B, D) -> y (B, D)
Carry = Callable[..., tuple[Tensor, Tensor]]  # x, tangents (K, B or 1, D) -> y, J tangents (K, B, D)


class Hand(NamedTuple):
    """Tangents of a map by hand, which is cheaper than autograd.

    Attributes:
        carry: ``(x, tangents, *given)`` as above; differentiable.
        linearised: ``(x, *given)`` -> y and tangents ``(K, B, D)`` -> J tangents, as often as one likes; no gradients.
    """

    carry: Carry
    linearised: Callable[..., tuple[Tensor, Callable[[Tensor], Tensor]]]


CURES = {
    "trace": "a continuous layer integrates tr J: choose trace=exact or trace=hutchinson",
    "log_det": "a residual layer needs log det(I + J): choose trace=roulette, trace=truncated or trace=exact",
}


class Trace:
    """tr J of a map x -> y, or log det(I + J), both ``(B, D)``, each row for itself.

    Attributes:
        noisy: whether the number is an estimate, that is to say draws.
        biased: whether its mean is another number than the one asked for.
        gives: what it has, ``trace`` (for continuous layers) or ``log_det`` (for residual ones).
    """

    noisy = False
    biased = False
    gives: tuple[str, ...] = ("trace",)

    def check(self, space: Space, gives: str = "trace") -> None:
        """Refuses a space that it is not for, and a number that it does not give."""
        if gives not in self.gives:
            raise Refused(f"trace={type(self).__module__.rpartition('.')[2]} gives no such number, and {CURES[gives]}")

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

    def log_det(
        self,
        field: Callable[..., Tensor],
        x: Tensor,
        given: Sequence[Tensor] = (),
        parameters: Sequence[Tensor] = (),
        training: bool = False,
        hand: Hand | None = None,
    ) -> tuple[Tensor, Tensor]:
        """y ``(B, D)`` and log det(I + J) ``(B,)`` of a map whose J is smaller than 1; differentiable likewise.

        Args:
            field: ``(x, *given)`` -> y.
            given: tensors that it reads, and that receive gradients.
            parameters: leaves that it reads beside them.
            training: whether a cheaper estimate will do.
            hand: its tangents, if it has them.
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

    def each(self, rows: Tensor) -> Tensor:
        """v^T J of several v, ``(K, B, D)``."""
        return torch.stack([self(v) for v in rows])

    def end(self) -> Tensor:
        return self.y if self.recording else self.y.detach()
