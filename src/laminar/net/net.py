"""Net: a conditioner. It reads what a layer shows it and answers with the parameters of a law."""

import torch
from torch import Tensor, nn

from laminar.space import Context, Space


class Net(nn.Module):
    """x of shape ``(B, *seen.event)`` -> parameters of shape ``(B, arity, *asked.event)``.

    A net ends in ``self.head``, a linear or convolutional layer whose output channels are ordered (arity, channel) and
    whose weights start near zero, so that a layer begins at the parameters that ``start`` was given.
    """

    head: nn.Module

    def __init__(self, seen: Space, asked: Space, arity: int):
        super().__init__()
        self.seen, self.asked, self.arity = seen, asked, arity

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        raise NotImplementedError

    @torch.no_grad()
    def start(self, params: Tensor) -> None:
        """Fills the head's bias with a law's starting parameters ``(arity,)``."""
        self.head.bias.copy_(params.repeat_interleave(self.head.bias.numel() // self.arity))
