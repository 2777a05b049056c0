"""None: an unconditional flow."""

from dataclasses import replace

from torch import nn

from laminar.flows.space import Context, Space


class Unconditional(nn.Module):
    """Nothing that the data come with reaches the parts."""

    def __init__(self, space: Space):
        super().__init__()
        self.codomain = replace(space, context={})

    def forward(self, context: Context) -> Context:
        return None
