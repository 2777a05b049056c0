"""Tiny parts with the properties that bigger ones will have: noisy, drawing, refreshed, noting, taking gradients."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from laminar.flows import ledger
from laminar.flows.space import Space
from laminar.flows.transform import Transform
from laminar.refused import Refused
from laminar.training.objective.objective import Objective


class Still(Transform):
    """z = x, both ways."""

    def forward(self, x: Tensor, context=None) -> tuple[Tensor, Tensor]:
        return x, x.new_zeros(len(x))

    def inverse(self, z: Tensor, context=None) -> Tensor:
        return z


class Leaf(Still):
    """A bijection."""

    def inverse_with_log_det(self, z: Tensor, context=None) -> tuple[Tensor, Tensor]:
        return z, z.new_zeros(len(z))


class Noisy(Leaf):
    """Its log-det is an estimate, until somebody asks for the exact one."""

    exact = False

    @property
    def noisy(self) -> bool:
        return not self.exact


class Drawing(Still):
    stochastic = True


class Magnitude(Transform):
    """z = |x|: an inference surjection, whose way back draws the sign."""

    invertible = False

    def forward(self, x: Tensor, context=None) -> tuple[Tensor, Tensor]:
        return x.abs(), -x.flatten(1)[0].numel() * torch.log(x.new_full((len(x),), 2.0))

    def inverse(self, z: Tensor, context=None) -> Tensor:
        return torch.where(torch.rand_like(z) < 0.5, -z, z)


class Counted(Leaf):
    """z = x + refreshes / 1000: what a power iteration would do to a number."""

    seen: list[int] = []  # what evaluations found

    def __init__(self, space: Space):
        super().__init__(space)
        self.register_buffer("refreshes", torch.zeros((), dtype=torch.int64))
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, context=None) -> tuple[Tensor, Tensor]:
        if not self.training:
            self.seen.append(int(self.refreshes))
        z = x * self.scale.exp() + self.refreshes / 1000
        return z, (self.scale * x[0].numel()).expand(len(x))

    def inverse(self, z: Tensor, context=None) -> Tensor:
        return (z - self.refreshes / 1000) / self.scale.exp()

    def refresh(self) -> None:
        self.refreshes += 1


class Noting(Leaf):
    """Notes the first value of each row."""

    def forward(self, x: Tensor, context=None) -> tuple[Tensor, Tensor]:
        ledger.note("first", x.flatten(1)[:, 0])
        return super().forward(x)


class Differentiating(Leaf):
    """z = x + sin(x) / 2 by the value, its log-det by autograd: an exact trace."""

    def forward(self, x: Tensor, context=None) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            here = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad((here + here.sin() / 2).sum(), here)
        return x + x.sin() / 2, slope.log().flatten(1).sum(1)


class Warm(Objective):
    """A warmed-up likelihood that moves biases alone, beside something that must follow the flow's device."""

    unit = "warm"

    def __init__(self):
        self.steps: list[int] = []
        self.devices: list[torch.device] = []
        self.beside = torch.zeros(())

    def __call__(self, flow, x, context, step):
        self.steps.append(step)
        return flow.log_prob(x, context) * min(1.0, (1 + step) / 10) + self.beside

    def trains(self, flow):
        return [parameter for name, parameter in flow.named_parameters() if name.endswith("bias")]

    def to(self, device):
        self.devices.append(device)
        self.beside = self.beside.to(device)


# Targets by name: log-densities that are, and three that are none.


def bell(x: Tensor) -> Tensor:
    """3 + log of N((1, 1, ...), 1/4 I) without its constant."""
    return 3 - 2 * (x - 1).square().sum(1)


def not_a_number(x: Tensor) -> Tensor:
    return x[:, 0].log()


def boxed(x: Tensor) -> Tensor:
    return torch.where(x[:, 0].abs() < 1, 0.0, -torch.inf)


def of_each_value(x: Tensor) -> Tensor:
    return -x.square()


def refuses(cook: Callable[[], object], sentence: str) -> None:
    """Asserts that something is refused, in one line that holds a sentence."""
    with pytest.raises(Refused, match=sentence) as no:
        cook()
    assert "\n" not in str(no.value)
