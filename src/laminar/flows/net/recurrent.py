"""Recurrent: a GRU that walks through the values (Cho et al. 2014, https://arxiv.org/abs/1406.1078), so that all of them share
their parameters (as in autoregressive flows by Oliva et al. 2018, https://arxiv.org/abs/1801.09819)."""

from typing import Any

import torch
from torch import Tensor, nn

from laminar.flows.net.causal import Causal, Solve
from laminar.flows.net.net import near_zero
from laminar.flows.space import Context


class Recurrent(Causal):
    """``depth`` layers of ``width`` units: ``(B, *event) -> (B, arity, *event)``; a step is a value of a vector, or a position.

    The state at a step has read the values of the steps before, in the order, and the context at this step. There are as many
    parameters for a hundred values as for ten, so a value's number must be told by what came before it.
    """

    def __init__(self, *task: Any, width: int = 128, depth: int = 1, **order: Any):
        super().__init__(*task, **order)
        self.channels = self.seen.event[0] if self.seen.is_image else 1
        self.gru = nn.GRU(self.channels + self.reader.channels, width, depth)
        self.head = near_zero(nn.Linear(width, self.arity * self.channels))

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        steps = self._steps(x, self.channels)
        before = torch.cat([torch.zeros_like(steps[:1]), steps[:-1]])
        if self.reader.channels:
            before = torch.cat([before, self._steps(self.reader.read(x, context), self.reader.channels)], 2)
        params = self.head(self.gru(before)[0])
        return params[self.ranks].permute(1, 2, 0).reshape(len(x), self.arity, *self.seen.event)

    def sequential(self, solve: Solve, z: Tensor, context: Context = None) -> Tensor:
        steps, x = self._steps(z, self.channels), z.new_zeros(len(z), self.channels)
        told = self._steps(self.reader.read(z, context), self.reader.channels) if self.reader.channels else None
        states, found = [z.new_zeros(len(z), self.gru.hidden_size)] * self.gru.num_layers, []
        for number, value in enumerate(steps):
            h = x if told is None else torch.cat([x, told[number]], 1)
            for layer, weights in enumerate(self.gru.all_weights):
                h = states[layer] = torch.gru_cell(h, states[layer], *weights)
            x = solve(value, self.head(h).unflatten(1, (self.arity, -1)))
            found.append(x)
        return torch.stack(found, 2)[:, :, self.ranks].view(z.shape)

    def _steps(self, x: Tensor, channels: int) -> Tensor:
        """``(B, channels, ...)`` as a sequence in the order, ``(steps, B, channels)``; what has no places, at all of them."""
        return x.reshape(len(x), channels, -1).expand(-1, -1, len(self.places))[:, :, self.places].permute(2, 0, 1)
