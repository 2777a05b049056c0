"""Label: class labels as context."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from laminar.flows.space import Context, Space
from laminar.refused import Refused


class Label(nn.Module):
    """Class indices ``(B,)`` under ``label`` become one-hot vectors ``(B, classes)``, which is what every part sees."""

    def __init__(self, space: Space):
        super().__init__()
        if "label" not in space.context:
            raise Refused("context=label needs labels, and the data have none: choose context=none, or data with labels")
        (self.classes,) = space.context["label"]
        self.codomain = space
        self.register_buffer("anchor", torch.zeros(()), persistent=False)  # carries the flow's precision

    def forward(self, context: Context) -> dict[str, Tensor]:
        if context is None or "label" not in context:
            raise Refused("this flow is conditional: give it labels, context={'label': ...}")
        return {**context, "label": F.one_hot(context["label"], self.classes).to(self.anchor.dtype)}
