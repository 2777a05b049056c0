"""ActNorm: a scale and a shift that start by normalising one batch (Glow, https://arxiv.org/abs/1807.03039)."""

from math import prod

import torch
from torch import Tensor, nn

from laminar.flows.initialise import SetByData
from laminar.flows.space import Context, Space
from laminar.flows.transform import Transform
from laminar.refused import Refused


class ActNorm(SetByData, Transform):
    """z = (x + shift) * exp(log_scale), per channel or per element; log-det = positions * sum log_scale.

    The first batch (see ``SetByData``) sets both so that what leaves has mean 0 and deviation 1 over it, whichever way it
    goes: z in ``forward``, x in ``inverse``.

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

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        if self.unset():
            self._look(x, forth=True)
        if self.shift is not None:
            x = x + self.shift
        return x * self.log_scale.exp(), self._log_det(x)

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        if self.unset():
            self._look(z, forth=False)
        x = z * torch.exp(-self.log_scale)
        return x if self.shift is None else x - self.shift

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self.inverse(z), -self._log_det(z)

    def _log_det(self, x: Tensor) -> Tensor:
        return (self.positions * self.log_scale.sum()).expand(len(x))

    @torch.no_grad()
    def _look(self, batch: Tensor, forth: bool) -> None:
        over = [0, *(i + 1 for i, n in enumerate(self.log_scale.shape) if n == 1)]
        deviation, mean = (s.view_as(self.log_scale) for s in torch.std_mean(batch, over, correction=0))
        deviation = deviation.clamp(min=self.floor)
        self.log_scale.copy_(-deviation.log() if forth else deviation.log())
        if self.shift is not None:
            self.shift.copy_(-mean if forth else mean / deviation)
        self.settle()
