"""Categorical: any distribution over a few levels."""

import torch
from torch import Tensor

from laminar.flows.observation.observation import Integers
from laminar.flows.space import Space


class Categorical(Integers):
    """P(x = k) = softmax(a)_k, with a parameter for each level."""

    def __init__(self, space: Space):
        super().__init__(space)
        self.arity = self.levels

    def log_probs(self, x: Tensor, params: Tensor) -> Tensor:
        return params.log_softmax(1).gather(1, x.long().unsqueeze(1)).squeeze(1)

    def quantile(self, u: Tensor, params: Tensor) -> Tensor:
        below = params.softmax(1).cumsum(1)[:, :-1]  # P(x <= k), but for the last, which is 1
        return (u.unsqueeze(1) >= below).sum(1).to(u.dtype)

    def mean(self, params: Tensor) -> Tensor:
        return torch.einsum("bk...,k->b...", params.softmax(1), torch.arange(self.levels).to(params))
