"""Label: class labels as context."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from laminar.flows import noise
from laminar.flows.space import Context, Space
from laminar.refused import Refused


class Label(nn.Module):
    """Class indices ``(B,)`` under ``label`` become one-hot vectors ``(B, classes)``, which is what every part sees.

    Args:
        dropout: the share of training rows whose class is kept back: their vector gives every class the same weight, so that
            a linear map of it is the mean class. What is needed to sample with guidance.
    """

    def __init__(self, space: Space, dropout: float = 0.0):
        super().__init__()
        if "label" not in space.context:
            raise Refused("context=label needs labels, and the data have none: choose context=none, or data with labels")
        if not 0 <= dropout < 1:
            raise Refused(f"context.dropout={dropout} is no share of the rows: take 0 or more, and less than 1")
        (self.classes,), self.dropout = space.context["label"], dropout
        self.codomain = space
        self.register_buffer("anchor", torch.zeros(()), persistent=False)  # carries the flow's precision

    def forward(self, context: Context) -> dict[str, Tensor]:
        if context is None or "label" not in context:
            raise Refused("this flow is conditional: give it labels, context={'label': ...}")
        told = F.one_hot(context["label"], self.classes).to(self.anchor.dtype)
        if self.training and self.dropout:
            kept = noise.uniform(told.new_empty(len(told))) >= self.dropout
            told = torch.where(kept[:, None], told, 1 / self.classes)
        return {**context, "label": told}

    def nothing(self, seen: dict[str, Tensor]) -> dict[str, Tensor]:
        """What parts see of rows whose class is kept back."""
        if not self.dropout:
            raise Refused(
                "guidance compares a flow that knows the class with itself when it does not, and this one was never trained "
                "without: train it with context=label_dropout"
            )
        return {**seen, "label": torch.full_like(seen["label"], 1 / self.classes)}
