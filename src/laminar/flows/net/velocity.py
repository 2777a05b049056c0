"""Velocity: the dynamics dx/dt = f(x, t) of a continuous layer."""

from typing import Any

from torch import Tensor

from laminar.flows.net.net import Net
from laminar.flows.space import Context, Space
from laminar.refused import Refused


class Velocity(Net):
    """x ``(B, *event)`` and its time t ``(B,)`` -> dx/dt ``(B, *event)``. Its task is the space alone.

    Attributes:
        carries: whether ``carry`` is there, tangents through the net by hand, for half to 0.7 of autograd's cost.
    """

    vector_nets, image_nets = "net=concat or net=concat_squash", "net=concat_conv or net=unet, or a flow that flattens"
    carries = False

    def __init__(self, space: Space, *task: Any):
        super().__init__(space, space, 1)
        if task:
            name = type(self).__module__.rpartition(".")[2]
            raise Refused(f"net={name} is a velocity, which only layer=continuous reads: choose net=mlp")

    def forward(self, x: Tensor, t: Tensor, context: Context = None) -> Tensor:
        raise NotImplementedError

    def carry(self, x: Tensor, t: Tensor, tangents: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        """dx/dt and J v for flattened events x ``(B, D)`` and tangents v ``(K, B or 1, D)``: ``(B, D)`` and ``(K, B, D)``."""
        raise NotImplementedError
