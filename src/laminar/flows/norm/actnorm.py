"""ActNorm: a scale and a shift that start by normalising one batch (Glow, https://arxiv.org/abs/1807.03039)."""

from math import prod

import torch
from torch import Tensor, nn

from laminar.flows.space import Context, Space
from laminar.flows.transform import Transform, is_initialising
from laminar.refused import Refused


class ActNorm(Transform):
    """z = (x + shift) * exp(log_scale), per channel or per element; log-det = positions * sum log_scale.

    The first pass inside ``initialising()`` sets both so that z has mean 0 and deviation 1 over that batch; the buffer
    ``initialized`` remembers it. Outside, nothing looks at the data.

    Args:
        per: ``channel`` (Glow) or ``element`` (Flow++).
        shift: False keeps the shift at 0: NICE's diagonal scaling (https://arxiv.org/abs/1410.8516, section 3.3).
        floor: the smallest deviation that is divided by.
    """

    def __init__(self, space: Space, per: str = "channel", shift: bool = True, floor: float = 1e-3):
        super().__init__(space, space.within(None))
        if per not in ("channel", "element"):
            raise Refused(f"norm.per is channel or element, not {per!r}")
        shape = space.event if per == "element" else (space.event[0], *[1] * (len(space.event) - 1))
        self.positions = space.size // prod(shape)
        self.floor = floor
        self.shift = nn.Parameter(torch.zeros(shape)) if shift else None
        self.log_scale = nn.Parameter(torch.zeros(shape))
        self.register_buffer("initialized", torch.zeros((), dtype=torch.bool))

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        if is_initialising() and not self.initialized:
            self._look(x)
        if self.shift is not None:
            x = x + self.shift
        return x * self.log_scale.exp(), self._log_det(x)

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        x = z * torch.exp(-self.log_scale)
        return x if self.shift is None else x - self.shift

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self.inverse(z), -self._log_det(z)

    def _log_det(self, x: Tensor) -> Tensor:
        return (self.positions * self.log_scale.sum()).expand(len(x))

    def _look(self, x: Tensor) -> None:
        over = [0, *(i + 1 for i, n in enumerate(self.log_scale.shape) if n == 1)]
        deviation, mean = torch.std_mean(x, over, correction=0)
        if self.shift is not None:
            self.shift.copy_(-mean.view_as(self.shift))
        self.log_scale.copy_(-deviation.clamp(min=self.floor).log().view_as(self.log_scale))
        self.initialized.fill_(True)
