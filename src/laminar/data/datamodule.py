"""FlowDataModule: a source of data, offered to Lightning and to the flow."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from pytorch_lightning import LightningDataModule

from laminar.data.batches import Batch, EvaluationBatches, Order, Share, TrainingBatches
from laminar.data.source import Source, Splits
from laminar.flows.space import Space


class FlowDataModule(LightningDataModule):
    """A source's splits and loaders, and what a flow must know of its values.

    Args:
        source: the data set.
        dequantization: recipe of the flow's first part, or None. Data declare it, so it is held here; the flow applies it.
        seed: of the run: cuts validation rows, orders training rows.

    Attributes:
        splits: the rows, read when first asked for.
        space: one example, with its levels and the shapes of its context; that of ``label`` is the number of classes.
        before: the splits' digests before a run's data changed, the oldest first.
        changed: whether those of validation are others than the scores of the run so far are of.
    """

    def __init__(self, source: Source, dequantization: Any = None, seed: int = 0):
        super().__init__()
        self.source, self.dequantization, self.seed = source, dequantization, seed
        self.before: list[dict[str, dict]] = []
        self.changed = False
        self._digests: dict[str, dict] = {}

    @cached_property
    def splits(self) -> Splits:
        return self.source.load(self.seed)

    @cached_property
    def space(self) -> Space:
        train = self.splits.train
        context = {name: tuple(value.shape[1:]) for name, value in train.context.items()}
        if "label" in context:
            context["label"] = (self.source.classes,)
        source = self.source
        return Space(tuple(train.values.shape[1:]), levels=source.levels, context=context, rounded=source.rounded)

    @cached_property
    def groups(self) -> int:
        """How many numbers the rows' groups have, over all splits; 0 where rows are independent."""
        return max((1 + int(split.group.max()) for split in self.splits if split.group is not None), default=0)

    @property
    def levels(self) -> int | None:
        return self.source.levels

    def digest(self, name: str) -> dict[str, Any]:
        """Size and digest of a split, taken once: equal ones have the same rows with the same values."""
        if name not in self._digests:
            split = getattr(self.splits, name)
            self._digests[name] = {"rows": len(split), "sha256": split.digest()}
        return self._digests[name]

    def known(self) -> dict[str, Any]:
        """What a checkpoint says of the data."""
        return {name: self.digest(name) for name in Splits._fields} | ({"before": self.before} if self.before else {})

    def split_record(self) -> dict:
        """What ``environment.json`` says of the data."""
        remarks = {"remarks": list(self.source.remarks)} if self.source.remarks else {}
        return {"source": self.source.name, "seed": self.seed, **self.known(), **remarks}

    def train_dataloader(self) -> TrainingBatches:
        return TrainingBatches(self.source, self.splits.train, self.seed, Share(self.trainer))

    def val_dataloader(self) -> EvaluationBatches:
        return self.evaluation("val")

    def test_dataloader(self) -> EvaluationBatches:
        return self.evaluation("test")

    def evaluation(self, split: str) -> EvaluationBatches:
        """Every row of ``train``, ``val`` or ``test`` once, over all ranks."""
        share = Share(self.trainer)
        size = self.source.eval_batch_size or share.micro_batch(self.source.batch_size)
        return EvaluationBatches(getattr(self.splits, split), size, share)

    def first_batch(self) -> Batch:
        """The first optimizer step's examples, the same on every rank: data-dependent parts initialise from them."""
        return next(self.first_epoch())

    def first_epoch(self) -> Iterator[Batch]:
        """Every training row once, as the first epoch serves them, the same on every rank: for parts that start from all."""
        order = Order(self.source, self.splits.train, self.seed, epoch=0)
        for index in order.permutation.split(self.source.batch_size):
            yield Share().batch(self.splits.train, order.values(index), index, epoch=0)

    def some_rows(self, count: int) -> Batch:
        """The first ``count`` training rows (all, where there are fewer) in the order of the run's first epoch, as they are."""
        train = self.splits.train
        index = Order(self.source, train, self.seed, epoch=0).permutation[:count]
        return Share().batch(train, train.values[index], index, epoch=0)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Index and epoch stay on the CPU, where noise keys are made: a copy back would stall the GPU every step."""
        x, context, index, epoch = batch
        context = {name: value.to(device, non_blocking=True) for name, value in context.items()}
        return x.to(device, non_blocking=True), context, index, epoch
