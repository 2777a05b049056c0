"""Batches: which rows each process serves at each step, as a function of (seed, position) alone.

A batch is ``(x, context, index, epoch)``: stored values, what they come with (name -> tensor, empty where that is nothing),
the rows' int64 numbers in their split, and the epoch. Sets live in memory and are served from the main process: a batch
costs one gather, less than the hand-over from a worker would.
"""

from collections.abc import Iterator
from math import ceil, inf

import torch
from pytorch_lightning import Trainer
from torch import Tensor

from laminar.config.machine import micro_batch
from laminar.data.source import Source, Split
from laminar.flows.noise import mix
from laminar.flows.space import rows_of
from laminar.refused import Refused

Batch = tuple[Tensor, dict[str, Tensor], Tensor, int]

ORDER = 0x0DE


class Share:
    """This process's share of the work, as the trainer says; all of it without one."""

    def __init__(self, trainer: Trainer | None = None):
        self.trainer = trainer
        self.ranks = trainer.world_size if trainer else 1
        self.rank = trainer.global_rank if trainer else 0
        self.accumulate = trainer.accumulate_grad_batches if trainer else 1
        self.overfit = bool(trainer and trainer.overfit_batches)
        self.pinned = bool(trainer) and trainer.strategy.root_device.type == "cuda"

    @property
    def position(self) -> int:
        """Training micro-batches completed on each rank, over all epochs.

        Lightning saves and restores this counter. It is ``processed``, not ``completed``: the latter lags by one in a
        checkpoint written by ``on_train_batch_end``, when the optimizer has already stepped.
        """
        return self.trainer.fit_loop.epoch_loop.batch_progress.total.processed if self.trainer else 0

    @property
    def limit(self) -> float:
        """Micro-batches to which ``limit_train_batches`` cuts an epoch."""
        return self.trainer.num_training_batches if self.trainer else inf

    def micro_batch(self, batch_size: int) -> int:
        """Examples of one forward pass on one rank."""
        return micro_batch(batch_size, self.ranks, self.accumulate)

    def batch(self, split: Split, x: Tensor, index: Tensor, epoch: int) -> Batch:
        context = rows_of(split.context, index)
        if self.pinned:
            x, context = x.pin_memory(), {name: value.pin_memory() for name, value in context.items()}
        return x, context, index, epoch


class Order:
    """An epoch's permutation, flips, shifts and binary values, each row's own: no sharing of the work changes them."""

    def __init__(self, source: Source, split: Split, seed: int, epoch: int):
        self.split, self.flip, self.shift, self.key = split, None, None, (seed, epoch)
        generator = torch.Generator().manual_seed(int(mix(seed, epoch, ORDER)))
        rows = len(split)
        self.permutation = torch.randperm(rows, generator=generator)
        if source.flip:
            self.flip = torch.randint(2, (rows,), generator=generator).bool()
        if source.shift:
            far = [round(source.shift * side) for side in split.values.shape[-2:]]
            self.shift = torch.stack([torch.randint(-n, n + 1, (rows,), generator=generator) for n in far], 1)

    def values(self, index: Tensor) -> Tensor:
        """The rows' values, flipped and shifted; a shift repeats the edge that it leaves behind."""
        x = self.split.redrawn(index, *self.key)
        if self.flip is None and self.shift is None:
            return x
        height, width = x.shape[-2:]
        down, right = torch.zeros(2, len(x), dtype=torch.long) if self.shift is None else self.shift[index].T
        rows = (torch.arange(height) - down[:, None]).clamp(0, height - 1)
        columns = (torch.arange(width) - right[:, None]).clamp(0, width - 1)
        if self.flip is not None:
            columns = torch.where(self.flip[index, None], width - 1 - columns, columns)
        pixels = (rows[:, :, None] * width + columns[:, None, :]).view(len(x), 1, -1)
        return x.flatten(2).gather(2, pixels.expand(-1, x.shape[1], -1)).view_as(x)


class TrainingBatches:
    """This rank's micro-batches. ``len`` is that of a whole epoch; iteration begins where the run stands.

    Micro-batch i of an epoch holds, over all ranks, the i-th ``ranks x micro_batch`` rows of the epoch's permutation: the
    examples behind an optimizer step do not depend on ranks or accumulation. The last incomplete step is dropped.
    """

    def __init__(self, source: Source, split: Split, seed: int, share: Share):
        if source.batch_size > len(split):
            raise Refused(
                f"data.batch_size={source.batch_size} exceeds the {len(split)} training examples: take at most that many"
            )
        self.source, self.split, self.seed, self.share = source, split, seed, share
        self.size = share.micro_batch(source.batch_size)
        self.length = len(split) // source.batch_size * share.accumulate

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Batch]:
        # This body runs at the first ``next``: Lightning has restored its counter and set its limit by then.
        share, length = self.share, min(self.length, self.share.limit)
        epoch, first = divmod(share.position, length)
        order = Order(self.source, self.split, self.seed, 0 if share.overfit else epoch)
        for number in range(first, length):
            start = (number * share.ranks + share.rank) * self.size
            index = order.permutation[start : start + self.size]
            yield share.batch(self.split, order.values(index), index, epoch)

    # By these two Lightning knows a loader as resumable. The position itself comes back with Lightning's own counter.
    def state_dict(self) -> dict[str, int]:
        return {"length": self.length, "rows": len(self.split)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        if state["length"] == self.length:
            return
        told = f"the checkpoint counts {state['length']} batches to an epoch and this run {self.length}"
        if (rows := state.get("rows", len(self.split))) != len(self.split):
            raise Refused(f"{told}, for it was trained on {rows} rows and here are {len(self.split)}: give it as many")
        raise Refused(f"{told}: resume with the data.batch_size and trainer.accumulate_grad_batches of its run")


class EvaluationBatches:
    """This rank's share of a split, in order. Nothing is padded or dropped, and every rank has as many batches."""

    def __init__(self, split: Split, size: int, share: Share):
        if len(split) < share.ranks:
            raise Refused(f"{len(split)} examples cannot be shared by {share.ranks} ranks: evaluate on fewer devices")
        self.split, self.share = split, share
        count = min(ceil(len(split) / (size * share.ranks)), len(split) // share.ranks)
        self.rows = torch.arange(len(split)).tensor_split(count * share.ranks)[share.rank :: share.ranks]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Batch]:
        for index in self.rows:
            yield self.share.batch(self.split, self.split.values[index], index, epoch=0)
