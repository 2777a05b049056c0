"""None: an unconditional flow."""

from dataclasses import replace

from torch import nn

from laminar.flows.space import Context, Space
from laminar.refused import Refused


class Unconditional(nn.Module):
    """Nothing that the data come with reaches the parts."""

    def __init__(self, space: Space):
        super().__init__()
        self.codomain = replace(space, context={})

    def forward(self, context: Context) -> Context:
        return None

    def nothing(self, seen: Context) -> Context:
        raise Refused("guidance is for flows that know a class, and this one knows none: train it with context=label_dropout")
