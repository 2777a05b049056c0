"""Throughput: training examples per second."""

from time import monotonic
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback


class Throughput(Callback):
    """Logs ``examples_per_second`` with each validation: over all ranks, of the time between validations alone.

    Args:
        warmup: first batches that are left out (compilation, autotuning, caches).
    """

    def __init__(self, warmup: int = 10):
        self.warmup, self.batches = warmup, 0
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


def _now(module: pl.LightningModule) -> float:
    """The time at which all work handed out so far is done."""
    if module.device.type == "cuda":
        torch.cuda.synchronize(module.device)
    return monotonic()
