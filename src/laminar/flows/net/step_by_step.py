"""The way back through a MADE: every unit computed once, when the last value that it sees is known."""

import copy
from itertools import pairwise
from math import isqrt

import torch
from torch import Tensor, nn

from laminar.flows.net.causal import Solve
from laminar.flows.space import Context


def step_by_step(made: nn.Module, solve: Solve, z: Tensor, context: Context = None) -> Tensor:
    """``sequential`` of a ``MADE``: x ``(B, *event)`` with x_i = solve(z_i, parameters of value i given x)."""
    # Everything stands transposed, a row for each value or unit, sorted by the moment when it is known: at moment 1 the
    # context and what sees nothing else, at moment r + 2 the value of rank r and the units whose last value it is. Moments
    # go in groups: what is known before a group is multiplied once for all of it, and a moment adds what its group has
    # found since; a product for a single unit would cost more than its arithmetic.
    learning, mixed = torch.is_grad_enabled() or torch.compiler.is_compiling(), torch.is_autocast_enabled(z.device.type)
    event, z, values, channels = z.shape, z.flatten(1), made.seen.size, made.joined
    columns = torch.cat([torch.arange(values, values + channels, device=z.device), made.places])  # context first
    layers = [*made.layers, made.spread or made.head]
    per = len(layers[-1].weight) // values
    order = torch.arange(per * values, device=z.device).view(per, values)[:, made.places].T.flatten()  # a step's together
    weights = [layer.free() for layer in layers]
    weights[0] = weights[0][:, columns]
    biases, scales = [layer.bias[:, None] for layer in layers], []
    if made.weight_norm:
        told = made._told(z, context)
        scales, biases = ([t.T for t in rows] for rows in zip(*(layer.around(*told) for layer in layers), strict=True))
        if not told:  # the same for all rows
            weights, scales = [scale * weight for scale, weight in zip(scales, weights, strict=True)], []
    for lists in (weights, biases, scales):
        lists[-1:] = [last[order] for last in lists[-1:]]
    shared = (made.head.bias[:, None], made.head.weight[:, :, 0]) if made.spread is not None else ()
    ends = [[0, *range(channels, channels + values + 1)], *[[0, *made.ends]] * len(made.layers)]  # rows known at a moment
    known = [(_Kept if learning else _Buffer)(end, z) for end in ends]
    asked = z[:, made.places].T.contiguous()[..., None].unbind(0)
    activation = made.activation if learning or made.residual else _in_place(made.activation)

    def base(number: int, rows: slice, since: int, until: int, sizes: list[int] | int) -> list[tuple[Tensor, ...]]:
        """What is known at the moment ``since`` tells the rows of the next kind, piece by piece, the weights by which they
        will see what is found until ``until``, and their scales."""
        weight, bias, scale = weights[number][rows], biases[number][rows], [s[number][rows] for s in [scales] if s]
        start, stop = ends[number][since], ends[number][until]
        told = _scaled(bias, weight[:, :start], known[number].between(0, since), *scale)
        known[number].look(since, until)
        return [rows.split(sizes) for rows in (told, weight[:, start:stop], *scale)]

    def add(number: int, told: Tensor, weight: Tensor, *scale: Tensor, into: Tensor | None = None) -> Tensor:
        """The same and what was found since."""
        found = known[number].found
        return _scaled(told, weight[:, : len(found)] if learning else weight, found, *scale, into=into)

    group = max(16, isqrt(values))
    for since in range(0, values + 1, group):
        until, first = min(since + group, values + 1), max(since, 1)  # the first moment that has parameters
        heads = zip(*base(-1, slice(per * (first - 1), per * (until - 1)), since, until, per), strict=True)
        units = []
        for end in ends[1:]:
            sizes = [after - before for before, after in pairwise(end[since : until + 1])]
            pieces = base(len(units), slice(end[since], end[until]), since, until, sizes)
            units.append(zip(*pieces, strict=True))
        for moment in range(since, until):
            if moment:
                params = add(-1, *next(heads))
                params = torch.addmm(*shared, params) if shared else params
                known[0].put(moment + 1, solve(asked[moment - 1], params.t().unsqueeze(2)).t())
            elif channels:
                known[0].put(1, made.reader.read(z, context).T)
            kept = 0.0
            for number, pieces in enumerate(units):
                h = add(number, *next(pieces), into=None if mixed else known[number + 1].places[moment + 1])
                if made.residual and number % 2 == 0:
                    h = kept = h + kept
                linear = made.residual and number == len(units) - 1
                known[number + 1].put(moment + 1, h if linear else activation(h))
    return known[0].between(1, values + 1).T[:, made.ranks].view(event)


def _scaled(told: Tensor, weight: Tensor, found: Tensor, *scale: Tensor, into: Tensor | None = None) -> Tensor:
    """told + weight @ found, or told + scale * (weight @ found)."""
    return torch.addcmul(told, *scale, weight @ found, out=into) if scale else torch.addmm(told, weight, found, out=into)


def _in_place(activation: nn.Module) -> nn.Module:
    """The same, of an input that nobody needs any more."""
    if hasattr(activation, "inplace"):
        activation = copy.copy(activation)
        activation.inplace = True
    return activation


class _Buffer:
    """Rows that become known moment after moment, in place. Those that are not known yet are zeros, and so are the weights by
    which others would see them: a product of a fixed shape costs less than cutting it out."""

    def __init__(self, ends: list[int], like: Tensor):
        self.ends, self.data = ends, like.new_zeros(ends[-1], len(like))
        self.places = self.data.split([after - before for before, after in pairwise([0, *ends])])

    def put(self, moment: int, rows: Tensor) -> None:
        if rows is not self.places[moment]:
            self.places[moment].copy_(rows)

    def between(self, since: int, moment: int) -> Tensor:
        """What became known after one moment and until another."""
        return self.data[self.ends[since] : self.ends[moment]]

    def look(self, since: int, until: int) -> None:
        """Makes ``found`` what becomes known from now on, until some moment."""
        self.found = self.between(since, until)


class _Kept:
    """The same, where gradients, or a compiler, must find every row as it was."""

    def __init__(self, ends: list[int], like: Tensor):
        self.pieces = [like.new_empty(0, len(like)) for _ in ends]
        self.places = [None] * len(ends)

    def put(self, moment: int, rows: Tensor) -> None:
        self.pieces[moment] = rows

    def between(self, since: int, moment: int) -> Tensor:
        return torch.cat(self.pieces[since + 1 : moment + 1]) if moment > since else self.pieces[0]

    def look(self, since: int, until: int) -> None:
        self.since, self.until = since, until

    @property
    def found(self) -> Tensor:
        return self.between(self.since, self.until)
