"""Source: a data set, cut into training, validation and test rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from math import log2
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad as pad_sides

from laminar.flows.noise import mix
from laminar.flows.space import rows_of
from laminar.refused import Refused

TEST_SEED, CUT = 0, 0xC07


@dataclass(frozen=True)
class Split:
    """Rows of a data set.

    Attributes:
        values: uint8 ``(N, C, H, W)`` for images, float32 ``(N, D)`` for real vectors.
        context: name -> tensor ``(N, ...)``: what each row comes with. Class numbers, int64 ``(N,)``, are its ``label``.
        ids: int64 ``(N,)``, the rows' places in the set that they were cut from.
    """

    values: Tensor
    context: dict[str, Tensor]
    ids: Tensor

    @classmethod
    def whole(cls, values: Tensor, label: Tensor | None = None, **context: Tensor) -> "Split":
        named = {} if label is None else {"label": label.long()}
        return cls(values, named | context, torch.arange(len(values)))

    @property
    def labels(self) -> Tensor | None:
        return self.context.get("label")

    def __len__(self) -> int:
        return len(self.values)

    def pick(self, rows: Tensor) -> "Split":
        return Split(self.values[rows], rows_of(self.context, rows), self.ids[rows])

    def digest(self) -> str:
        """SHA-256 of ids and values."""
        digest = sha256(self.ids.numpy())
        digest.update(self.values.contiguous().numpy())
        return digest.hexdigest()


class Splits(NamedTuple):
    train: Split
    val: Split | None
    test: Split | None


class Source:
    """A data set and how it is served.

    Args:
        batch_size: examples behind one optimizer step, over all ranks and accumulated micro-batches.
        eval_batch_size: examples of one evaluation batch on one rank; None takes a training micro-batch.
        num_bits: keeps the highest bits of each value; None keeps the data's own levels.
        validation: share (0.1) or number (5000) of training rows held out for validation, chosen by the run's seed.
            Not read where the set has a validation split of its own.
        flip: mirrors training images left to right at random.
        shift: moves training images at random, by up to this share of their sides; edges are repeated.
        pad: rings of zeros around an image. They count as dimensions: bits/dim are those of the padded image.
        parents: which values each value depends on, where that is known: ``order=dag`` reads it from the config.
    """

    levels: int | None = 256
    classes: int | None = None
    log_prob: Callable[[Tensor], Tensor] | None = None  # of a known density: (B, *event) -> (B,), nats
    held_out_for_test: float = 0.1  # of a set without a test split; the same rows whatever the run's seed

    def __init__(
        self,
        *,
        batch_size: int,
        eval_batch_size: int | None = None,
        num_bits: int | None = None,
        validation: float = 0.1,
        flip: bool = False,
        shift: float = 0.0,
        pad: int = 0,
        parents: Sequence[Sequence[int]] | Mapping[str, Sequence[str]] | None = None,
    ):
        for option, number in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if number is not None and number < 1:
                raise Refused(f"data.{option}={number} serves nothing: at least 1 is needed")
        if not 0 <= shift < 1:
            raise Refused(f"data.shift={shift} is a share of an image's side: take it from [0, 1)")
        if pad < 0:
            raise Refused(f"data.pad={pad} cannot cut an image: take 0 or more rings of zeros")
        if self.levels is None and (flip or shift or pad):
            raise Refused("data.flip, data.shift and data.pad are for images, and this set holds vectors: leave them out")
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.validation, self.flip, self.shift, self.pad, self.parents = validation, flip, shift, pad, parents
        self.dropped_bits = 0 if num_bits is None else self._dropped_bits(num_bits)
        self.levels = self.levels and self.levels >> self.dropped_bits

    @property
    def name(self) -> str:
        return type(self).__name__

    def read(self) -> Splits:
        """The set's own splits, with ``levels`` as published; None where it has no such split."""
        raise NotImplementedError

    def load(self, seed: int) -> Splits:
        """Disjoint splits. The test rows never depend on ``seed``; validation rows are cut by it."""
        train, val, test = self.read()
        if test is None:
            train, test = hold_out(train, self.held_out_for_test, TEST_SEED, "data.test")
        if val is None:
            train, val = hold_out(train, self.validation, seed, "data.validation")
        return Splits(*(self._prepared(split) for split in (train, val, test)))

    def _prepared(self, split: Split) -> Split:
        values = split.values >> self.dropped_bits if self.dropped_bits else split.values
        return replace(split, values=pad_sides(values, [self.pad] * 4) if self.pad else values)

    def _dropped_bits(self, num_bits: int) -> int:
        own = log2(self.levels) if self.levels else 0.0
        if self.levels is None or not own.is_integer():
            what = f"{self.levels} levels, not a power of two" if self.levels else "real values"
            raise Refused(f"data.num_bits={num_bits} keeps the highest bits, and this set has {what}: leave num_bits null")
        if not 1 <= num_bits <= own:
            raise Refused(f"data.num_bits={num_bits} is outside this set's 1 to {int(own)} bits: take one of those")
        return int(own) - num_bits


def hold_out(split: Split, amount: float, seed: int, option: str) -> tuple[Split, Split]:
    """The remaining rows and the held-out ones, a share (float) or a number (int) of all; both in their old order."""
    count = amount if isinstance(amount, int) else round(amount * len(split))
    if not 0 < count < len(split):
        raise Refused(
            f"{option}={amount} of {len(split)} rows would hold out {count}: "
            f"take a share between 0 and 1 or a number from 1 to {len(split) - 1}"
        )
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(int(mix(seed, CUT))))
    return split.pick(order[count:].sort().values), split.pick(order[:count].sort().values)
