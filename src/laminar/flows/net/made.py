"""MADE: a fully connected net whose connections respect an order (Germain, Gregor, Murray, Larochelle 2015,
https://arxiv.org/abs/1502.03509); with residual blocks, the conditioner of autoregressive spline flows (Durkan et al. 2019)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from laminar.flows.net.causal import Causal, MaskedLinear, Solve
from laminar.flows.net.net import near_zero
from laminar.flows.space import Context
from laminar.refused import Refused


class MADE(Causal):
    """``depth`` hidden layers of ``width`` units, or as many residual blocks: vectors ``(B, D) -> (B, arity, D)``.

    Every hidden unit has a degree m: it sees the values of rank up to m, and the units of degree up to m. The parameters of
    the value of rank r see the units of degree below r. Units stand sorted by degree, so that the way back computes each
    exactly once, when the last value that it sees is known. Context joins the input of every unit; units of degree -1 see
    nothing else.

    Args:
        width: units of a hidden layer.
        depth: hidden layers; of residual blocks, two layers each, with one more before them.
        activation: of the hidden layers.
        residual: h + W_2 a(W_1 a(h)) in place of plain layers.
        degrees: ``sequential`` goes round and round through all ranks; ``random`` draws each unit's, by ``seed``: MAF's way
            where there are more values than units.
    """

    def __init__(
        self,
        *task: Any,
        width: int = 512,
        depth: int = 2,
        activation: Callable[[], nn.Module] = nn.ReLU,
        residual: bool = False,
        degrees: str = "sequential",
        seed: int = 0,
        **order: Any,
    ):
        super().__init__(*task, **order)
        if degrees not in ("sequential", "random"):
            raise Refused(f"net.degrees is sequential or random, not {degrees!r}")
        values, least = self.seen.size, -1 if self.reader.channels else 0
        different = max(values - 1 - least, 1)
        if degrees == "sequential" and width < different and depth:
            raise Refused(
                f"net=made with size.width={width} has fewer units than the {different} degrees that {values} values need, and "
                "the last of them would inform nothing: take more units, or net.degrees=random"
            )
        drawn = np.arange(width) if degrees == "sequential" else np.random.default_rng(seed).integers(different, size=width)
        drawn[:1] = 0  # some unit sees the context alone
        degree, rank = np.sort(least + drawn % different), self.order.rank
        context = np.full(self.reader.channels, -1)  # comes before everything
        layers = (1 + 2 * depth if residual else depth) if depth else 0
        self.activation, self.residual = activation(), residual
        self.layers = nn.ModuleList()
        below = np.concatenate([rank, context])
        for _ in range(layers):
            self.layers.append(MaskedLinear(below <= degree[:, None]))
            below = degree
        self.head = near_zero(MaskedLinear(np.tile(below < rank[:, None], (self.arity, 1)))).clean()
        self.ends = np.searchsorted(degree, np.arange(-1, values), side="right").tolist()  # units of degree up to -1, 0, 1 ..
        self.places = np.argsort(rank).tolist()  # the values in order of their rank

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        h, act = self.reader(x, context), self.activation
        if self.residual:
            h = self.layers[0](h)
            for first, second in zip(self.layers[1::2], self.layers[2::2], strict=True):
                h = h + second(act(first(act(h))))
        else:
            for layer in self.layers:
                h = act(layer(h))
        return self.head(h).unflatten(1, (self.arity, -1))

    def sequential(self, solve: Solve, z: Tensor, context: Context = None) -> Tensor:
        # Everything stands transposed, a row for each value or unit, so that a step reads the rows above its own. What a step
        # needs of the weights is cut out beforehand: for small nets the cutting would cost more than the arithmetic.
        values, channels, rows = self.seen.size, self.reader.channels, _Kept if torch.is_grad_enabled() else _Buffer
        columns = [*range(values, values + channels), *self.places]  # context first
        weights = [layer.free() if number else layer.free()[:, columns] for number, layer in enumerate(self.layers)]
        head = self.head.free() if weights else self.head.free()[:, columns]
        heads = head.view(self.arity, values, -1)[:, self.places].unbind(1)
        biases = self.head.bias.view(self.arity, values, 1)[:, self.places].unbind(1)
        blocks = [self.ends[0], *np.diff(self.ends).tolist()]  # units of degree -1, 0, 1 ..
        cut = [(w.split(blocks), layer.bias[:, None].split(blocks)) for w, layer in zip(weights, self.layers, strict=True)]
        x, hidden = rows(channels + values, z), [rows(len(weight), z) for weight in weights]
        if channels:
            x.put(self.reader.read(z, context).T)

        def units(block: int) -> None:
            """Computes the units of degree ``block`` - 1 in every layer, out of the values that they see."""
            below, kept = x.rows(channels + block), 0.0
            for number, ((weight, bias), store) in enumerate(zip(cut, hidden, strict=True)):
                h = torch.addmm(bias[block], weight[block][:, : len(below)], below)
                if self.residual and number % 2 == 0:
                    h = kept = h + kept
                linear = self.residual and number == len(cut) - 1
                store.put(h if linear else self.activation(h))
                below = store.rows(self.ends[block])

        if blocks[0]:
            units(0)
        for rank, column in enumerate(z[:, self.places].split(1, 1)):
            seen = hidden[-1].rows(self.ends[rank]) if hidden else x.rows(channels + rank)
            params = torch.addmm(biases[rank], heads[rank][:, : len(seen)], seen)
            x.put(solve(column, params.T.unsqueeze(2)).T)
            if blocks[rank + 1]:
                units(rank + 1)
        return x.rows(channels + values)[channels:].T[:, self.order.rank]


class _Buffer:
    """Rows that are filled from the top, in place."""

    def __init__(self, count: int, like: Tensor):
        self.data, self.count = like.new_empty(count, len(like)), 0

    def put(self, rows: Tensor) -> None:
        self.data[self.count : self.count + len(rows)] = rows
        self.count += len(rows)

    def rows(self, count: int) -> Tensor:
        return self.data[:count]


class _Kept:
    """The same, where gradients must find every row as it was."""

    def __init__(self, count: int, like: Tensor):
        self.data = like.new_empty(0, len(like))

    def put(self, rows: Tensor) -> None:
        self.data = torch.cat([self.data, rows])

    def rows(self, count: int) -> Tensor:
        return self.data[:count]
