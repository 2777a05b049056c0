"""Gaussian noise instead of dequantization (TarFlow, Zhai et al. 2024, https://arxiv.org/abs/2412.06329, section 2.3)."""

from dataclasses import replace

from torch import Tensor

from laminar.flows import noise
from laminar.flows.dequantization.dequantization import Dequantization
from laminar.flows.space import Context, Space
from laminar.refused import Refused


class GaussianNoise(Dequantization):
    """z = x + sigma N(0, 1), contribution 0; x is the level that z is nearest to. Inside ``noise.centre()``, z = x.

    What follows is a density of the noisy reals z, known exactly, whose nats are called ``noisy_nll``. It says nothing of
    the integers' probability: there are neither bits/dim nor K-sample bounds. A sample z carries the noise; its estimated
    clean image is z + sigma^2 grad log p(z).

    Args:
        sigma: in units of half the range, those of ``preprocessing=symmetric`` (pixels in [-1, 1]).
    """

    unit = "noisy_nll"
    invertible = False

    def __init__(self, space: Space, sigma: float = 0.05):
        if not sigma > 0:
            raise Refused(f"dequantization.sigma={sigma} is no noise: take a number above 0")
        super().__init__(space, "gaussian")
        if space.rounded is not None:
            raise Refused(
                "dequantization=gaussian is for integers, and some of these values are rounded reals (data.resolution), which "
                "it would leave without a density: choose dequantization=uniform"
            )
        self.share = sigma / 2
        self.codomain = replace(self.codomain, blurred=True)

    @property
    def sigma(self) -> Tensor:
        """The noise's deviation in stored units: ``share`` of the levels; 0 for a real element."""
        return self.share * self.levels

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        x = x.to(self.levels.dtype)
        return x + self.sigma * noise.normal(x), x.new_zeros(len(x))
