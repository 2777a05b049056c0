"""The way back through a MADE: every unit computed once, when the last value that it sees is known."""

from math import isqrt

import numpy as np
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
    event, z, values, channels = z.shape, z.flatten(1), made.seen.size, made.joined
    columns = [*range(values, values + channels), *made.places.tolist()]  # context first
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
    ends = [[0, *range(channels, channels + values + 1)], *[[0, *made.ends]] * len(made.layers)]  # rows known at a moment
    known = [(_Kept if torch.is_grad_enabled() else _Buffer)(end, z) for end in ends]
    asked = z[:, made.places].T.contiguous()[..., None].unbind(0)

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
                if made.spread is not None:
                    params = torch.addmm(made.head.bias[:, None], made.head.weight[:, :, 0], params)
                known[0].put(moment + 1, solve(asked[moment - 1], params.t().unsqueeze(2)).t())
            elif channels:
                known[0].put(1, made.reader.read(z, context).T)
            kept = 0.0
            for number, pieces in enumerate(units):
                h = add(number, pieces[moment - since])
                if made.residual and number % 2 == 0:
                    h = kept = h + kept
                linear = made.residual and number == len(units) - 1
                known[number + 1].put(moment + 1, h if linear else made.activation(h))
    return known[0].between(1, values + 1).T[:, made.ranks].view(event)


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
