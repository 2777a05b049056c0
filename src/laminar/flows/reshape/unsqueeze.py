"""Unsqueeze: depth to space, the way back from a squeeze."""

from torch import Tensor
from torch.nn import functional as F

from laminar.flows.space import Context, Space
from laminar.flows.transform import Transform
from laminar.refused import Refused


class Unsqueeze(Transform):
    """``(C f^2, H, W) -> (C, f H, f W)``; log-det 0."""

    def __init__(self, space: Space, factor: int = 2):
        if not space.is_image or space.event[0] % factor**2:
            raise Refused(f"unsqueeze by {factor} needs a multiple of {factor**2} channels, and the event is {space.event}")
        c, h, w = space.event
        super().__init__(space, space.reshaped(c // factor**2, h * factor, w * factor))
        self.factor = factor

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return F.pixel_shuffle(x, self.factor), x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        return F.pixel_unshuffle(z, self.factor)

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self.inverse(z), z.new_zeros(len(z))
