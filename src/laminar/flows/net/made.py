"""MADE: a fully connected net whose connections respect an order (Germain, Gregor, Murray, Larochelle 2015,
https://arxiv.org/abs/1502.03509); with residual blocks, the conditioner of autoregressive spline flows (Durkan et al. 2019)."""

from collections.abc import Callable
from functools import partial
from math import isqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from laminar.flows.net.causal import Causal, MaskedLinear, Solve
from laminar.flows.net.context import ContextReader
from laminar.flows.net.net import near_zero
from laminar.flows.net.weight_norm import MaskedWeightNorm
from laminar.flows.space import Context, Space
from laminar.refused import Refused


class MADE(Causal):
    """``depth`` hidden layers of ``width`` units, or as many residual blocks; a step is one value.

    Every hidden unit serves the values of some rank r on: it sees what the value of rank r sees, and the units that see no
    more than itself; and so do the value's parameters. In a line these are the values of rank up to r - 1, MADE's degree of a
    unit; in a graph (order=dag) the value's parents. Units stand sorted by the last value that they see, so that the way back
    computes each exactly once, when that value is known. Context joins the input of every unit; some see nothing else.

    Args:
        width: units of a hidden layer.
        depth: hidden layers; of residual blocks, two layers each, with one more before them.
        activation: of the hidden layers.
        residual: h + W_2 a(W_1 a(h)) in place of plain layers.
        degrees: ``sequential`` goes round and round through all ranks; ``random`` draws each unit's, by ``seed``: MAF's way
            where there are more values than units.
        weight_norm: context scales and shifts every unit instead, see ``MaskedWeightNorm``: NAF's conditioner.
        planes: the last masked layer gives this number times width // D planes for each value, and one affine map that all
            values share turns them into the parameters; 0 leaves both out.
    """

    graphs = True

    def __init__(
        self,
        *task: Any,
        width: int = 512,
        depth: int = 2,
        activation: Callable[[], nn.Module] = nn.ReLU,
        residual: bool = False,
        degrees: str = "sequential",
        seed: int = 0,
        weight_norm: bool = False,
        planes: int = 0,
        **order: Any,
    ):
        super().__init__(*task, **order)
        self.reader = ContextReader(self.seen.flattened())
        if degrees not in ("sequential", "random"):
            raise Refused(f"net.degrees is sequential or random, not {degrees!r}")
        values, rank, sees = self.seen.size, self.order.rank, self.order.sees
        self.joined = 0 if weight_norm else self.reader.channels
        kinds = self.order.kinds if self.joined else self.order.kinds[self.order.last[self.order.kinds] >= 0]
        different = max(len(kinds), 1)
        if degrees == "sequential" and width < different and depth:
            raise Refused(
                f"net=made with size.width={width} has fewer units than the {different} degrees that {values} values need, and "
                "the last of them would inform nothing: take more units, or net.degrees=random"
            )
        drawn = np.arange(width) if degrees == "sequential" else np.random.default_rng(seed).integers(different, size=width)
        drawn[:1] = 0  # some unit sees the context alone
        units = kinds[np.sort(drawn % different)] if len(kinds) else np.zeros(width, dtype=int)
        masked = partial(MaskedWeightNorm, context=self.reader.channels) if weight_norm else MaskedLinear

        def seen(ranks: np.ndarray) -> np.ndarray:
            """What is seen of the input: values, and behind them the context."""
            return np.hstack([sees(ranks[:, None], rank), np.ones((len(ranks), self.joined), dtype=bool)])

        layers = (1 + 2 * depth if residual else depth) if depth else 0
        self.activation, self.residual, self.weight_norm = activation(), residual, weight_norm
        self.layers = nn.ModuleList()
        for number in range(layers):
            self.layers.append(masked(self.order.within(units, units[:, None]) if number else seen(units)))
        outputs = planes * max(width // values, 1) or self.arity
        ends = np.tile(self.order.within(units, rank[:, None]) if layers else seen(rank), (outputs, 1))
        last = masked(ends, norm=True) if weight_norm else masked(ends)
        self.spread = last if planes else None
        self.head = near_zero(nn.Conv1d(outputs, self.arity, 1) if planes else last)
        if weight_norm and not planes:
            nn.init.constant_(last.scale.bias, 0.01)
        last.clean()
        known = self.order.last[units]
        self.ends = np.searchsorted(known, np.arange(-1, values), side="right").tolist()  # units known at degree -1, 0, 1 ..

    def steps(self) -> Space:
        return self.seen

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        x, told = x.flatten(1), self._told(x.flatten(1), context)
        h, act = x if self.weight_norm else self.reader(x, context), self.activation
        if self.residual:
            h = self.layers[0](h, *told)
            for first, second in zip(self.layers[1::2], self.layers[2::2], strict=True):
                h = h + second(act(first(act(h), *told)), *told)
        else:
            for layer in self.layers:
                h = act(layer(h, *told))
        if self.spread is None:
            return self.head(h, *told).unflatten(1, (self.arity, *self.seen.event))
        planes = self.spread(h, *told).unflatten(1, (-1, self.seen.size))
        return self.head(planes).unflatten(2, self.seen.event)

    def _told(self, x: Tensor, context: Context) -> tuple[Tensor, ...]:
        """What every layer is told beside what it sees."""
        return (self.reader.read(x, context),) if self.weight_norm and self.reader.channels else ()

    def sequential(self, solve: Solve, z: Tensor, context: Context = None) -> Tensor:
        # Everything stands transposed, a row for each value or unit, sorted by the moment when it is known: at moment 1 the
        # context and what sees nothing else, at moment r + 2 the value of rank r and the units whose last value it is. Moments
        # go in groups: what is known before a group is multiplied once for all of it, and a moment adds what its group has
        # found since; a product for a single unit would cost more than its arithmetic.
        event, z, values, channels = z.shape, z.flatten(1), self.seen.size, self.joined
        columns = [*range(values, values + channels), *self.places.tolist()]  # context first
        layers = [*self.layers, self.spread or self.head]
        per = len(layers[-1].weight) // values
        order = torch.arange(per * values).view(per, values)[:, self.places].T.flatten()  # a step's together
        weights = [layer.free() for layer in layers]
        weights[0] = weights[0][:, columns]
        biases, scales = [layer.bias[:, None] for layer in layers], []
        if self.weight_norm:
            told = self._told(z, context)
            scales, biases = ([t.T for t in rows] for rows in zip(*(layer.around(*told) for layer in layers), strict=True))
            if not told:  # the same for all rows
                weights, scales = [scale * weight for scale, weight in zip(scales, weights, strict=True)], []
        for lists in (weights, biases, scales):
            lists[-1:] = [last[order] for last in lists[-1:]]
        ends = [[0, *range(channels, channels + values + 1)], *[[0, *self.ends]] * len(self.layers)]  # rows known at a moment
        known = [(_Kept if torch.is_grad_enabled() else _Buffer)(end, z) for end in ends]
        asked = z[:, self.places].T.contiguous()[..., None].unbind(0)

        def base(number: int, rows: slice, since: int, until: int, sizes: list[int] | int) -> list[tuple[Tensor, ...]]:
            """What is known at the moment ``since`` tells the rows of the next kind, piece by piece, and the weights by which
            they will see what is found until ``until``."""
            weight, bias, scale = weights[number][rows], biases[number][rows], [s[number][rows] for s in [scales] if s]
            start, stop = ends[number][since], ends[number][until]
            told = _scaled(bias, *scale, weight[:, :start], known[number].between(0, since))
            known[number].look(since, until)
            return list(zip(*(rows.split(sizes) for rows in (told, *scale, weight[:, start:stop])), strict=True))

        def add(number: int, piece: tuple[Tensor, ...]) -> Tensor:
            """The same and what was found since."""
            (*told, weight), found = piece, known[number].found
            if len(found) < weight.shape[1]:
                weight = weight[:, : len(found)]
            return _scaled(*told, weight, found) if len(told) > 1 else torch.addmm(*told, weight, found)

        group = max(16, isqrt(values))
        for since in range(0, values + 1, group):
            until, first = min(since + group, values + 1), max(since, 1)  # the first moment that has parameters
            heads = base(-1, slice(per * (first - 1), per * (until - 1)), since, until, per)
            units = []
            for end in ends[1:]:
                sizes = np.diff(end[since : until + 1]).tolist()
                units.append(base(len(units), slice(end[since], end[until]), since, until, sizes))
            for moment in range(since, until):
                if moment:
                    params = add(-1, heads[moment - first])
                    if self.spread is not None:
                        params = torch.addmm(self.head.bias[:, None], self.head.weight[:, :, 0], params)
                    known[0].put(moment + 1, solve(asked[moment - 1], params.t().unsqueeze(2)).t())
                elif channels:
                    known[0].put(1, self.reader.read(z, context).T)
                kept = 0.0
                for number, pieces in enumerate(units):
                    h = add(number, pieces[moment - since])
                    if self.residual and number % 2 == 0:
                        h = kept = h + kept
                    linear = self.residual and number == len(units) - 1
                    known[number + 1].put(moment + 1, h if linear else self.activation(h))
        return known[0].between(1, values + 1).T[:, self.ranks].view(event)


def _scaled(told: Tensor, *rest: Tensor) -> Tensor:
    """told + weight @ found, or told + scale * (weight @ found)."""
    *scale, weight, found = rest
    return torch.addcmul(told, *scale, weight @ found) if scale else torch.addmm(told, weight, found)


class _Buffer:
    """Rows that become known moment after moment, in place. Those that are not known yet are zeros, and so are the weights by
    which others would see them: a product of a fixed shape costs less than cutting it out."""

    def __init__(self, ends: list[int], like: Tensor):
        self.ends, self.data = ends, like.new_zeros(ends[-1], len(like))
        self.places = self.data.split(np.diff(ends, prepend=0).tolist())

    def put(self, moment: int, rows: Tensor) -> None:
        self.places[moment].copy_(rows)

    def between(self, since: int, moment: int) -> Tensor:
        """What became known after one moment and until another."""
        return self.data[self.ends[since] : self.ends[moment]]

    def look(self, since: int, until: int) -> None:
        """Makes ``found`` what becomes known from now on, until some moment."""
        self.found = self.between(since, until)


class _Kept:
    """The same, where gradients must find every row as it was."""

    def __init__(self, ends: list[int], like: Tensor):
        self.pieces = [like.new_empty(0, len(like)) for _ in ends]

    def put(self, moment: int, rows: Tensor) -> None:
        self.pieces[moment] = rows

    def between(self, since: int, moment: int) -> Tensor:
        return torch.cat(self.pieces[since + 1 : moment + 1]) if moment > since else self.pieces[0]

    def look(self, since: int, until: int) -> None:
        self.since, self.until = since, until

    @property
    def found(self) -> Tensor:
        return self.between(self.since, self.until)
