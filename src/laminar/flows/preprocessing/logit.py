"""Logit: from pixels to the whole real line (RealNVP, https://arxiv.org/abs/1605.08803, section 4.1)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from laminar.flows.numerics import sum_event
from laminar.flows.preprocessing.bounded import slope_of
from laminar.flows.space import Context, Space
from laminar.flows.transform import Transform
from laminar.refused import Refused


class Logit(Transform):
    """z = logit(s) with s = alpha + (1 - 2 alpha) x / upper, for x in [0, upper).

    log-det = sum [log((1 - 2 alpha) / upper) - log s - log(1 - s)]. With alpha > 0 pixels of 0 and 255 stay finite and
    gradients small, and the flow puts some mass outside the data's range (its leak).
    """

    def __init__(self, space: Space, alpha: float = 0.05):
        if space.blurred:
            raise Refused(
                "preprocessing=logit ends at the edges of the data's range, and dequantization=gaussian leads beyond them: "
                "choose preprocessing=symmetric"
            )
        slope, log_det = slope_of(space, "logit", 1.0 - 2.0 * alpha)
        super().__init__(space, space.within(None))
        self.alpha, self.slope, self.constant = alpha, slope, log_det

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        low = self.alpha + self.slope * x  # s
        high = 1.0 - self.alpha - self.slope * x  # 1 - s, without the cancellation where s is near 1
        tiny = torch.finfo(x.dtype).tiny
        log_low, log_high = low.clamp(min=tiny).log(), high.clamp(min=tiny).log()
        return log_low - log_high, self.constant - sum_event(log_low + log_high)

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        return (torch.sigmoid(z) - self.alpha) / self.slope

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self.inverse(z), -self.constant - sum_event(F.softplus(z) + F.softplus(-z))
