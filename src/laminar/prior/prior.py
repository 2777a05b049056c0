"""Prior: the distribution of the noise at a flow's end."""

import torch
from torch import Tensor, nn

from laminar.space import Space


class Prior(nn.Module):
    """A distribution over events of ``space``, independent over a batch."""

    def __init__(self, space: Space):
        super().__init__()
        self.space = space
        self.register_buffer("anchor", torch.zeros(()), persistent=False)  # where and in which precision to draw

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) in nats, ``(B, *event) -> (B,)``."""
        raise NotImplementedError

    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        """``(n, *event)`` draws. Temperature narrows (below 1) or widens the distribution in its own natural sense."""
        raise NotImplementedError

    def like(self, n: int) -> Tensor:
        """An empty ``(n, *event)`` tensor on the right device, for ``noise`` to draw like."""
        return self.anchor.new_empty(n, *self.space.event)
