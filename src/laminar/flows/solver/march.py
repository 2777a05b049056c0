"""The stepping loop: every row of a batch goes its own way through time, and is told by none of the others."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from laminar.flows.solver.tableau import Tableau, constants, mix
from laminar.refused import Refused

Rate = Callable[..., Tensor]  # (t (B,), y (B, C), *given (B, ...)) -> dy/dt (B, C)
Stages = list[tuple[Tensor, Tensor]]  # the times (B,) and points (B, C) at which a step asked for its slopes
Seen = Callable[[Tensor, Tensor, Tensor, Stages], None]  # rows, times, steps taken (0: none), stages

SHORTEST = 1e-12  # of the span
SAFETY, SLOWEST, FASTEST = 0.9, 0.2, 10.0
NOW, BEFORE = 0.7, 0.4  # proportional-integral control


class Unsolved(Refused):
    """A differential equation that could not be solved. The message names the layer, the time, the row, and the cure."""


def step(rate: Rate, tableau: Tableau, t: Tensor, h: Tensor, y: Tensor, given: Sequence[Tensor], first: Tensor | None = None):
    """y at t + h, the stages and their slopes; ``first`` is the slope at t where it is known."""
    width, stages, slopes = h.to(y.dtype).unsqueeze(1), [], []
    times = torch.addcmul(t, constants(tableau.nodes, t.dtype, t.device).unsqueeze(1), h).to(y.dtype)
    for time, weights in zip(times.unbind(), tableau.stages, strict=True):
        point = torch.addcmul(y, width, mix(weights, slopes)) if slopes else y
        slopes.append(first if first is not None and not slopes else rate(time, point, *given))
        stages.append((time, point))
    return torch.addcmul(y, width, mix(tableau.weights, slopes)), stages, slopes


def march(
    rate: Rate,
    y: Tensor,
    span: tuple[float, float],
    given: Sequence[Tensor],
    tableau: Tableau,
    first: float,
    max_steps: int,
    tolerance: tuple[float, float],
    compact: bool,
    seen: Seen | None = None,
    name: str = "",
) -> tuple[Tensor, Tensor]:
    """y ``(B, C)`` at the end of the span, and how often each row asked for its rate ``(B,)``.

    Time, step, error and acceptance are each row's own, in float64, so a row's result is the same in any batch. A row that has
    arrived takes steps of 0 until half of its block has; then the block is halved.

    Args:
        given: what the rate reads beside t and y, with a row for each of y's.
        first: the first step as a share of the span; of a fixed-step method, every step.
        tolerance: absolute and relative; a step is taken if the root mean square over the columns of
            error / (absolute + relative max(\\|y\\|, \\|new y\\|)) is at most 1.
        compact: whether to halve blocks; each new size is a graph of its own for compiled dynamics.
        seen: told of each round of steps.
        name: whose equation it is, for an error to tell.

    Raises:
        Unsolved: where a value is not finite, a step became shorter than 1e-12 of the span, or ``max_steps`` did not suffice.
    """
    start, end = span
    clock = {"dtype": torch.float64, "device": y.device}
    t, h = torch.full((len(y),), start, **clock), torch.full((len(y),), (end - start) * first, **clock)
    past, rows = torch.ones(len(y), **clock), torch.arange(len(y), device=y.device)
    evaluations = torch.zeros(len(y), dtype=torch.int64, device=y.device)
    arrived, slope = [], None
    for left in range(max_steps - 1, -1, -1):
        rest = end - t
        landing = h.abs() >= rest.abs() * (1 - 1e-9)
        h = torch.where(landing, rest, h)
        moving = h != 0
        new, stages, slopes = step(rate, tableau, t, h, y, given, slope)
        asked = len(slopes) - (slope is not None)
        if tableau.error is None:
            taken, factor, sound = torch.ones_like(moving), 1.0, new.isfinite().all(1)
        else:
            slopes.append(rate((t + h).to(y.dtype), new, *given))
            asked += 1
            error = _error(mix(tableau.error, slopes), h, y, new, tolerance)
            taken, sound = error <= 1, error.isfinite()
            factor = SAFETY * error.clamp(min=1e-10) ** (-NOW / tableau.order) * past ** (BEFORE / tableau.order)
            factor = factor.clamp(SLOWEST, FASTEST)
            past = torch.where(taken, error.clamp(min=1e-4), past)
            slope = torch.where(taken.unsqueeze(1), slopes[-1], slopes[0])
        evaluations += asked * moving
        if seen is not None:
            seen(rows, t, torch.where(taken, h, 0.0), stages)
        before, t = t, torch.where(taken, torch.where(landing, end, t + h), t)
        y = new if tableau.error is None else torch.where(taken.unsqueeze(1), new, y)
        live, h = t != end, h * factor
        short = live & (h.abs() < SHORTEST * abs(end - start))
        unsound, shrunk, going = torch.stack([(~sound).sum(), short.sum(), live.sum()]).tolist()
        if unsound:
            raise _unsolved("met a value that is not finite", ~sound, rows, before, live, span, name)
        if shrunk:
            raise _unsolved("needs steps shorter than 1e-12 of its span", short, rows, before, live, span, name)
        if not going:
            break
        if not left:
            raise _unsolved(f"took {max_steps} steps without arriving", live, rows, t, live, span, name)
        if compact and 2 * going <= len(rows):
            arrived.append((rows[~live], y[~live], evaluations[~live]))
            rows, t, h, past, y, evaluations = (value[live] for value in (rows, t, h, past, y, evaluations))
            given, slope = [value[live] for value in given], None if slope is None else slope[live]
    if not arrived:
        return y, evaluations
    rows, y, evaluations = (torch.cat(values) for values in zip(*arrived, (rows, y, evaluations), strict=True))
    back = rows.argsort()
    return y[back], evaluations[back]


@torch.no_grad()
def _error(slope: Tensor, h: Tensor, y: Tensor, new: Tensor, tolerance: tuple[float, float]) -> Tensor:
    """A step's error in units of the tolerance, which is never below what the precision carries."""
    eps = torch.finfo(y.dtype).eps
    absolute, relative = max(tolerance[0], eps), max(tolerance[1], 8 * eps)
    scale = torch.maximum(y.abs(), new.abs()).mul_(relative).add_(absolute)
    return (slope / scale).double().square().mean(1).sqrt() * h.abs()


def _unsolved(what: str, at: Tensor, rows: Tensor, t: Tensor, live: Tensor, span: tuple[float, float], name: str) -> Unsolved:
    place, whose = int(at.nonzero()[0]), f" of {name}" if name else ""
    return Unsolved(
        f"the differential equation{whose} {what}: at time {float(t[place]):.6g} of {list(span)} in row {int(rows[place])}, "
        f"{int(live.sum())} rows remain: allow more solver.max_steps (or solver.steps), loosen solver.rtol and solver.atol, or "
        "keep the dynamics smooth (a lower optimizer.lr, weight decay, a smooth activation)"
    )
