"""Exact: the whole Jacobian, column by column."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from laminar.flows.space import Space
from laminar.flows.trace.trace import Carry, Field, Hand, Pulled, Trace
from laminar.refused import Refused


class Exact(Trace):
    """sum_i e_i^T J e_i, or log det(I + J), at the price of D columns: for tables and small images.

    Args:
        chunk: columns that are carried at once; by autograd it is always one.
        largest: D from which on it is refused.
    """

    gives = ("trace", "log_det")

    def __init__(self, chunk: int = 64, largest: int = 1024):
        if chunk < 1:
            raise Refused(f"trace.chunk={chunk} carries no column: give 1 or more")
        self.chunk, self.largest = chunk, largest

    def check(self, space: Space, gives: str = "trace") -> None:
        if space.size > self.largest:
            raise Refused(
                f"trace=exact takes a column of the Jacobian for each of {space.size} dimensions at every step: choose "
                f"trace={'hutchinson' if gives == 'trace' else 'roulette'}, or raise trace.largest={self.largest}"
            )

    def __call__(
        self, field: Field, x: Tensor, probes: Tensor | None, carry: Carry | None = None, norm: bool = False
    ) -> tuple[Tensor, ...]:
        pulled = Pulled(field, x) if carry is None else None
        traces, norms, before = [], [], 0
        for units in _units(x.shape[1], x.dtype, x.device).split(self.chunk if carry else 1):
            y, moved = carry(x, units.unsqueeze(1)) if carry else (pulled.y, pulled(units.expand_as(x)).unsqueeze(0))
            traces.append(moved[:, :, before : before + len(units)].diagonal(dim1=0, dim2=2).sum(1))
            before += len(units)
            if norm:
                norms.append(moved.square().sum((0, 2)))
        return y if carry else pulled.end(), _total(traces), *([_total(norms)] if norm else [])

    @torch.compiler.disable
    def log_det(
        self,
        field: Callable[..., Tensor],
        x: Tensor,
        given: Sequence[Tensor] = (),
        parameters: Sequence[Tensor] = (),
        training: bool = False,
        hand: Hand | None = None,
    ) -> tuple[Tensor, Tensor]:
        one = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        if hand is not None:
            y, columns = hand.carry(x, one.unsqueeze(1), *given)
            jacobian = columns.transpose(0, 1)  # transposed, which no determinant minds
        else:
            pulled = Pulled(lambda x: field(x, *given), x)
            jacobian, y = torch.stack([pulled(unit.expand_as(x)) for unit in one], 1), pulled.end()
        return y, torch.linalg.slogdet(one + jacobian)[1]


@lru_cache(maxsize=10)
def _units(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # or no gradient could ever pass through it
        return torch.eye(size, dtype=dtype, device=device)


def _total(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)
