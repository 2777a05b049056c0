"""Jacobi decoding: the way back of a causal net with all steps at once, until nothing changes (Song, Meng, Liao, Ermon 2021,
https://arxiv.org/abs/2002.03629)."""

import torch
from torch import Tensor

from laminar.flows.net.causal import Causal, Solve
from laminar.flows.space import Context


@torch.no_grad()
def jacobi(net: Causal, solve: Solve, z: Tensor, context: Context = None, tolerance: float = 0.0) -> Tensor:
    """x ``(B, *event)`` with x_i = solve(z_i, parameters of step i given x): where ``Causal.sequential`` leads, to rounding.

    Starts at zeros and sets all steps by the net's answer to the last trial. The first k steps are right after k rounds,
    whatever stands behind them, so T rounds are enough; usually few are needed, since a step hardly depends on most others.
    A step is through when a round changes neither it nor those before it by more than rounding; the net is asked for a
    window of steps after those that are through in all rows, and rows that are through leave the batch.

    Args:
        tolerance: a change by so much, relative to 1 + |x|, is none: fewer rounds, and an x that is off by about as much.
    """
    steps, least, bound = len(net.places), max(tolerance, 8 * torch.finfo(z.dtype).eps), torch.finfo(z.dtype).max ** 0.25
    z = z.reshape(len(z), -1, steps)[..., net.places]
    result, x, rows = torch.empty_like(z), torch.zeros_like(z), torch.arange(len(z), device=z.device)
    ahead, done = net.ahead(context), 0
    while len(rows):
        until = min(done + ahead.window(x), steps)
        trial = x[..., done:until]
        found = solve(z[..., done:until], ahead(x, done, until))
        size = found.abs()
        stays = ((found - trial).abs_() < least * (1 + size)).all(1)  # false for what is not finite
        stays[:, 0] = True  # whatever it was, now it is right
        # Further steps may be anything yet, and 0 times what is not finite is not the 0 that a mask stands for.
        trial.copy_(torch.where(size < bound, found, 0.0))[..., 0] = found[..., 0]
        moves = torch.nn.functional.pad(stays, (0, 1)).logical_not_()
        through = [done + first for first in moves.int().argmax(1).tolist()]
        if max(through) == steps:
            on = torch.tensor([first < steps for first in through], device=z.device)
            result[rows[~on]] = x[~on]
            x, z, rows, through = x[on], z[on], rows[on], [first for first in through if first < steps]
            ahead.drop(~on)
        if through:
            ahead.keep(done := min(through))
    return result[..., net.ranks].view(len(result), *net.seen.event)
