"""Throughput: training examples and samples per second."""

from time import monotonic
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from laminar.flows import noise
from laminar.flows.draw import some_context
from laminar.flows.space import rows_of
from laminar.refused import Refused


class Throughput(Callback):
    """Logs ``examples_per_second`` with each validation: over all ranks, of the time between validations alone.

    With the test comes ``samples_per_second``, of one rank that draws all samples at once; a flow without a way back has none.

    Args:
        samples: drawn to measure that.
        warmup: first batches that are left out (compilation, autotuning, caches).
    """

    def __init__(self, warmup: int = 10, samples: int = 64):
        self.warmup, self.samples, self.batches = warmup, samples, 0
        self.examples, self.seconds, self.began = 0, 0.0, None

    @property
    def rate(self) -> float | None:
        return self.examples / self.seconds if self.seconds else None

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        self.batches += 1
        if self.began is None and self.batches > self.warmup:
            self.began = _now(module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.began is not None:
            self.examples += len(batch[0]) * trainer.world_size

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.on_train_end(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.began is not None:
            self.seconds += _now(module) - self.began
            self.began = None

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.rate is not None:
            module.log("examples_per_second", self.rate, rank_zero_only=True)

    def on_test_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        try:
            self._draw(module, trainer.datamodule, 1)  # warms up
            began = _now(module)
            self._draw(module, trainer.datamodule, self.samples)
            module.log("samples_per_second", self.samples / (_now(module) - began), rank_zero_only=True)
        except Refused:
            return

    def _draw(self, module: pl.LightningModule, data: pl.LightningDataModule, n: int) -> None:
        with noise.keyed(n):  # leaves the training noise where it was
            context = some_context(module.flow, n, data.splits.test.context)
            module.flow.sample(n, rows_of(context, slice(None), module.device))


def _now(module: pl.LightningModule) -> float:
    """The time at which all work handed out so far is done."""
    if module.device.type == "cuda":
        torch.cuda.synchronize(module.device)
    return monotonic()
