"""Transformer: causal attention over patches (TarFlow, Zhai et al. 2024, https://arxiv.org/abs/2412.06329; apple/ml-tarflow).

Over the values of a vector it is the conditioner of the transformer neural autoregressive flow (T-NAF, Patacchiola,
Shysheya, Hofmann, Turner 2024, https://arxiv.org/abs/2401.01855).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from laminar.flows.net.attention import Block, Past, check_attention
from laminar.flows.net.causal import Ahead, Causal, Solve, unthreaded
from laminar.flows.net.context import ContextReader
from laminar.flows.net.net import near_zero
from laminar.flows.space import Context


class Transformer(Causal):
    """Tokens are the positions of an image, all channels at once (patches: squeeze it first), or the values of a vector.

    The token of a step holds the values of the step before it (zeros at the first), a learned position embedding and a linear
    map of the step's context; ``depth`` pre-norm blocks, in which a token attends to itself and those before it, and a linear
    head. TarFlow's code moves the answers by a step in place of the input, so that its first token passes unchanged; here it
    moves by a constant, or by the context, with the same parameters.

    Args:
        width: size of a token inside, a multiple of ``head_width``.
        depth: number of blocks; their inner layer is 4 times as wide.
        head_width: of each attention head.
    """

    def __init__(self, *task: Any, width: int = 768, depth: int = 8, head_width: int = 64, **order: Any):
        super().__init__(*task, **order)
        heads = max(width // head_width, 1)
        check_attention("transformer", self.seen.event, width, heads, "raise size.patch")
        self.channels = self.seen.event[0] if self.seen.is_image else 1
        self.tokens = self.seen.size // self.channels
        if not any(len(shape) == 3 for shape in self.seen.context.values()):
            self.reader = ContextReader(self.seen.flattened())  # the same for all tokens: read once
        self.first = nn.Linear(self.channels, width)
        self.position = nn.Parameter(torch.randn(self.tokens, width) * 0.01)
        self.told = nn.Linear(self.reader.channels, width, bias=False) if self.reader.channels else None
        if self.told is not None:
            nn.init.normal_(self.told.weight, std=0.01)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.head = near_zero(nn.Linear(width, self.arity * self.channels))

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        params = self._answers(_before(self._tokens(x)), self._around(x, context))
        return params[..., self.ranks].flatten(2).unflatten(2, self.seen.event)

    def sequential(self, solve: Solve, z: Tensor, context: Context = None) -> Tensor:
        values, around, past = self._tokens(z), self._around(z, context), self._past(z)
        found = [torch.zeros_like(values[..., :1])]
        with unthreaded(z, len(z) * sum(weight.numel() for weight in self.parameters())):
            for step in range(self.tokens):
                params = self._answers(found[-1], around[:, step : step + 1], past)
                found.append(solve(values[..., step : step + 1], params))
        return torch.cat(found[1:], 2)[..., self.ranks].reshape(z.shape)

    def ahead(self, context: Context) -> Ahead:
        return _Ahead(self, context)

    def _past(self, like: Tensor) -> list[Past]:
        """For one way back: no tokens yet, for each block."""
        sees = torch.ones(self.tokens, self.tokens, dtype=torch.bool, device=like.device).tril()
        return [Past(sees) for _ in self.blocks]

    def _tokens(self, x: Tensor) -> Tensor:
        """``(B, *event) -> (B, C, T)`` in the order."""
        return x.reshape(len(x), self.channels, -1)[..., self.places]

    def _around(self, x: Tensor, context: Context) -> Tensor:
        """What a token holds beside values, its place and its context: ``(B or 1, T, width)``."""
        if self.told is None:
            return self.position[None]
        told = self.reader.read(x, context)
        told = told[:, None] if told.dim() == 2 else told.flatten(2)[..., self.places].transpose(1, 2)
        return self.position + self.told(told)

    def _answers(self, before: Tensor, around: Tensor, past: Sequence[Past] | None = None) -> Tensor:
        """Parameters ``(B, arity, C, n)`` of n steps in a row, out of the values of the steps before each ``(B, C, n)``."""
        h = self.first(before.transpose(1, 2)) + around
        for block, kept in zip(self.blocks, past or [None] * len(self.blocks), strict=True):
            h = block(h, causal=True, past=kept)
        return self.head(h).transpose(1, 2).unflatten(1, (self.arity, self.channels))


class _Ahead(Ahead):
    """Keeps the keys and values of the steps that are through, and looks ahead as long as calls, not arithmetic, take time."""

    def __init__(self, net: Transformer, context: Context):
        super().__init__(net, context)
        self.around, self.past = None, net._past(net.position)

    def window(self, x: Tensor) -> int:
        # All ahead take the fewest calls. On a CPU a call for one token costs what about 32 tokens add to it, so that a window
        # which follows those that are through, and spares a quarter of the tokens, is faster unless cores abound.
        return max(32, 96 * torch.get_num_threads() // len(x)) if x.device.type == "cpu" else x.shape[2]

    def __call__(self, x: Tensor, since: int, until: int) -> Tensor:
        if self.around is None:
            self.around = self.net._around(x, self.context)
        return self.net._answers(_before(x)[..., since:until], self.around[:, since:until], self.past)

    def drop(self, rows: Tensor) -> None:
        self.around = self.around[~rows] if len(self.around) == len(rows) else self.around
        for past in self.past:
            past.drop(rows)

    def keep(self, steps: int) -> None:
        for past in self.past:
            past.keep(steps)


def _before(values: Tensor) -> Tensor:
    """Each step's values moved to the step after it, zeros at the first."""
    return F.pad(values[..., :-1], (1, 0))
