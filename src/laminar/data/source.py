"""Source: a data set, cut into training, validation and test rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from math import log2
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad as pad_sides

from laminar.data.options import check_options
from laminar.flows.noise import mix
from laminar.flows.space import rows_of
from laminar.refused import Refused

TEST_SEED, CUT, BINARY = 0, 0xC07, 0xB1
NO_IMAGES = "data.flip, data.shift and data.pad are for images, and this set holds vectors: leave them out"
DIGESTED = ("ids", "values", "chances", "group")


@dataclass(frozen=True)
class Split:
    """Rows of a data set.

    Attributes:
        values: uint8 ``(N, C, H, W)`` for images, float32 ``(N, D)`` for real vectors.
        context: name -> tensor ``(N, ...)``: what each row comes with. Class numbers, int64 ``(N,)``, are its ``label``.
        ids: int64 ``(N,)``, the rows' places in the set that they were cut from.
        chances: uint8, of the values' shape: of binary values that are drawn again for every epoch, how likely a 1 is, in
            steps of 1 / ``steps``; None where values stay as they are.
        group: int64 ``(N,)``, numbers of what the rows are parts of (patches of an image), where they are not independent.
    """

    values: Tensor
    context: dict[str, Tensor]
    ids: Tensor
    chances: Tensor | None = None
    steps: int = 1
    group: Tensor | None = None

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
        chances, group = (part if part is None else part[rows] for part in (self.chances, self.group))
        kept = {"values": self.values[rows], "context": rows_of(self.context, rows), "ids": self.ids[rows]}
        return replace(self, **kept, chances=chances, group=group)

    def redrawn(self, rows: Tensor, *key: int) -> Tensor:
        """Some rows' values; binary ones drawn anew, each a function of (key, its row) alone."""
        if self.chances is None:
            return self.values[rows]
        chances = self.chances[rows]
        drawn = mix(*key, BINARY, rows.numpy()[:, None], np.arange(chances[0].numel())) % np.uint64(self.steps)
        return (torch.from_numpy(drawn.astype(np.uint8)).view_as(chances) < chances).byte()

    def digest(self) -> str:
        """SHA-256 of all that rows are: their ids, values and chances, what they come with and are parts of."""
        digest = sha256(f"{self.steps}".encode())
        for name, part in [*sorted(self.context.items()), *((name, getattr(self, name)) for name in DIGESTED)]:
            if part is not None:
                digest.update(f"{name} {part.dtype} {tuple(part.shape)}".encode())
                digest.update(part.contiguous().numpy())
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
        pad: rings of zeros around an image, at most as many as its shorter side has pixels. They count as dimensions:
            bits/dim are those of the padded image.
        binary: draws integers as 0 or 1, the chance of a 1 being value / (levels - 1): ``static`` once, the same whatever the
            run's seed; ``dynamic`` training rows again for every epoch, all others once. None keeps the integers.
        parents: which values each value depends on, where that is known: ``order=dag`` reads it from the config.
    """

    levels: int | tuple[int | None, ...] | None = 256
    rounded: tuple[float | None, ...] | None = None  # of a table's columns, the steps that they were rounded to
    columns: Sequence[str] | None = None  # a table's names
    base: str | None = None  # what the score is a density of, where that is not plain
    remarks: Sequence[str] = ()  # what there is to say of the rows, once they are loaded
    classes: int | None = None
    empty = False  # whether its rows are numbers alone, for objectives that read no data
    log_prob: Callable[[Tensor], Tensor] | None = None  # of a known density: (B, *event) -> (B,), nats
    held_out_for_test: float = 0.1  # of a set without a test split; the same rows whatever the run's seed

    def __new__(cls, **options: Any):
        check_options(cls, options)
        return super().__new__(cls)

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
        binary: str | None = None,
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
            raise Refused(NO_IMAGES)
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.validation, self.flip, self.shift, self.pad, self.parents = validation, flip, shift, pad, parents
        self.dropped_bits = 0 if num_bits is None else self._dropped_bits(num_bits)
        self.levels = self.levels and self.levels >> self.dropped_bits
        if binary not in (None, "static", "dynamic"):
            raise Refused(f"data.binary={binary} is none of static and dynamic: take one, or null for the values themselves")
        if binary and (self.levels is None or self.levels < 2):
            raise Refused(f"data.binary={binary} draws integers as 0 or 1, and this set has none to draw: leave it null")
        self.binary, self.steps = binary, (self.levels or 1) - 1
        self.levels = 2 if binary else self.levels

    @property
    def name(self) -> str:
        return type(self).__name__

    def read(self) -> Splits:
        """The set's own splits, with ``levels`` as published; None where it has no such split."""
        raise NotImplementedError

    def found(self) -> dict[str, Any]:
        """Options that the rows decided, once they are loaded: the run keeps them in place of what it was told."""
        return {}

    def load(self, seed: int) -> Splits:
        """Disjoint splits. The test rows never depend on ``seed``; validation rows are cut by it."""
        try:
            read = self.read()
        except MemoryError as error:
            raise Refused(f"{self.name} needs more memory than there is ({error}): take fewer or smaller rows") from error
        train, val, test = (split and self._prepared(split, place) for place, split in enumerate(read))
        if test is None:
            train, test = hold_out(train, self.held_out_for_test, TEST_SEED, "data.test")
        if val is None:
            train, val = hold_out(train, self.validation, seed, "data.validation")
        return Splits(train, replace(val, chances=None), replace(test, chances=None))

    def _prepared(self, split: Split, place: int) -> Split:
        values = split.values >> self.dropped_bits if self.dropped_bits else split.values
        if values.dim() != 4 and (self.flip or self.shift or self.pad):
            raise Refused(NO_IMAGES)
        if self.pad > (side := min(values.shape[-2:])):
            raise Refused(f"data.pad={self.pad} would surround images of {side} pixels: take at most {side} rings of zeros")
        if split.labels is not None and not 0 <= split.labels.min() <= split.labels.max() < self.classes:
            raise Refused(f"{self.name} has labels outside its classes 0 to {self.classes - 1}: replace its damaged file")
        values = pad_sides(values, [self.pad] * 4) if self.pad else values
        if not self.binary:
            return replace(split, values=values)
        # Drawn before rows are held out, so that a row's values depend on no run's seed.
        generator = torch.Generator().manual_seed(int(mix(BINARY, place)))
        drawn = torch.randint(self.steps, values.shape, generator=generator, dtype=torch.uint8) < values
        return replace(split, values=drawn.byte(), chances=values if self.binary == "dynamic" else None, steps=self.steps)

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
    kept, held = cut(len(split), amount, seed, option)
    return split.pick(kept), split.pick(held)


def cut(total: int, amount: float, seed: int, option: str, what: str = "rows") -> tuple[Tensor, Tensor]:
    """The numbers of the remaining rows and of the held-out ones, both in order."""
    count = amount if isinstance(amount, int) else round(amount * total)
    if not 0 < count < total:
        raise Refused(
            f"{option}={amount} of {total} {what} would hold out {count}: "
            f"take a share between 0 and 1 or a number from 1 to {total - 1}"
        )
    order = torch.randperm(total, generator=torch.Generator().manual_seed(int(mix(seed, CUT))))
    return order[count:].sort().values, order[:count].sort().values
