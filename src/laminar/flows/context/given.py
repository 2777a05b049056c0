"""Given: context that is ready to be seen."""

from torch import nn

from laminar.flows.space import Context, Space


class Given(nn.Module):
    """Passes the context on as it comes: for a flow inside another part, such as a dequantizer's q(u | x)."""

    def __init__(self, space: Space):
        super().__init__()
        self.codomain = space

    def forward(self, context: Context) -> Context:
        return context
