"""Standardise: a table's columns to mean 0 and deviation 1 over its training rows."""

import torch
from torch import Tensor

from laminar.flows.initialise import SetByData
from laminar.flows.numerics import merged, moments
from laminar.flows.space import Context, Space
from laminar.flows.transform import Transform


class Standardise(SetByData, Transform):
    """z = (x - mean) / scale, per element; log-det = -sum log scale, so that the flow's score is in the data's own units.

    Mean and deviation are those of all rows that it is shown (see ``SetByData``), summed in float64. They are no parameters,
    and go with the weights. An element that never varies keeps its scale.
    """

    thorough = True

    def __init__(self, space: Space):
        super().__init__(space, space.within(None))
        self.register_buffer("mean", torch.zeros(space.event))
        self.register_buffer("scale", torch.ones(space.event))

    @property
    def log_det(self) -> Tensor:
        """log|det dz/dx|, a number: what the score in the data's units and that of the standardised values differ by."""
        return -self.scale.log().sum()

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        if self.unset():
            self._look(x)
        return (x - self.mean) / self.scale, self.log_det.expand(len(x))

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        if self.unset():
            self._look(z, forth=False)
        return z * self.scale + self.mean

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self.inverse(z), -self.log_det.expand(len(z))

    @torch.no_grad()
    def _look(self, batch: Tensor, forth: bool = True) -> None:
        count, mean, squares = self.gather(moments(batch), merged)
        scale = (squares / count).sqrt()
        scale = torch.where(scale > 0, scale, 1.0)
        if not forth:  # what comes in is z, and x shall be standard
            mean, scale = -mean / scale, 1 / scale
        self.mean.copy_(mean)
        self.scale.copy_(scale)
        self.settle()
