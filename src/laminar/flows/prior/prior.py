"""Prior: the distribution of the noise at a flow's end."""

from math import inf

import torch
from torch import Tensor, nn

from laminar.flows.space import Space
from laminar.refused import Refused


class Prior(nn.Module):
    """A distribution over events of ``space``, independent over a batch.

    Attributes:
        low, high: the interval outside of which a value has no density.
    """

    low, high = -inf, inf

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

    def entropy(self) -> float | None:
        """-E log p(z) in nats of one event; None where no closed form is known."""
        return None

    def like(self, n: int) -> Tensor:
        """An empty ``(n, *event)`` tensor on the right device, for ``noise`` to draw like."""
        return self.anchor.new_empty(n, *self.space.event)

    def check_noise(self) -> None:
        """Refuses noise that nothing keeps within [low, high]: a single value outside makes log p(x) -inf."""
        bottom, top = (-inf, inf) if self.space.top is None else (0.0, self.space.top)
        if bottom < self.low or top > self.high:
            raise Refused(
                f"prior={type(self).__module__.rpartition('.')[2]} has no density outside [{self.low:g}, {self.high:g}], and "
                f"this flow's noise lies in [{bottom:g}, {top:g}]: choose prior=gaussian or prior=logistic, or a flow that "
                "stays in [0, 1], such as flow=nis"
            )
