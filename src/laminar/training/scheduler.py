"""Learning-rate schedules: each multiplies the optimizer's rate by a function of t, the steps (or epochs) done."""

from collections.abc import Callable
from math import cos, pi

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from laminar.flows.recipe import recipe
from laminar.refused import Refused


@recipe
def warmup(optimizer: Optimizer, warmup: int) -> LambdaLR:
    """Linear from 1/warmup to 1, then constant."""
    return LambdaLR(optimizer, _rise(warmup))


@recipe
def cosine(optimizer: Optimizer, warmup: int, total: int, floor: float = 0.0) -> LambdaLR:
    """Linear to 1 over ``warmup``, then half a cosine down to ``floor`` at ``total`` (Loshchilov, Hutter 2017)."""
    if total <= warmup:
        raise Refused(
            f"scheduler=cosine ends at scheduler.recipe.total={total}, which must exceed its warmup of {warmup}: "
            "set trainer.max_steps (or the total itself)"
        )
    rise = _rise(warmup)

    def factor(t: int) -> float:
        progress = min(max(t - warmup, 0) / (total - warmup), 1.0)
        return rise(t) * (floor + (1 - floor) * (1 + cos(pi * progress)) / 2)

    return LambdaLR(optimizer, factor)


@recipe
def exponential(optimizer: Optimizer, decay: float, warmup: int = 0, hold: int = 0, floor: float = 0.0) -> LambdaLR:
    """Linear to 1 over ``warmup``, constant for ``hold``, then times ``decay`` every step, never below ``floor``."""
    rise = _rise(warmup)
    return LambdaLR(optimizer, lambda t: rise(t) * max(decay ** max(t - warmup - hold, 0), floor))


def _rise(warmup: int) -> Callable[[int], float]:
    return lambda t: min((t + 1) / max(warmup, 1), 1.0)
