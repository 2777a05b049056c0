"""Throughput: examples trained on, scored and drawn per second."""

from time import monotonic
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from laminar.flows import noise
from laminar.flows.draw import some_context
from laminar.flows.flow import Flow
from laminar.flows.space import Context, rows_of
from laminar.refused import Refused

ENOUGH = 0.2  # seconds of draws that make a rate


class Throughput(Callback):
    """Logs ``examples_per_second`` with each validation: over all ranks, of the time between validations alone.

    With the test come ``scored_per_second``, test examples over all ranks, each by all of its importance samples, and
    ``samples_per_second``, of one rank that draws all samples at once; a flow without a way back has none.

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
            self.began = now(module.device)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.began is not None:
            self.examples += len(batch[0]) * trainer.world_size

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.on_train_end(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.began is not None:
            self.seconds += now(module.device) - self.began
            self.began = None

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.rate is not None:
            module.log("examples_per_second", self.rate, rank_zero_only=True)

    def on_test_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.scored, self.scoring, self.compiled = 0, 0.0, set()

    def on_test_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, *args: Any) -> None:
        self.asked = now(module.device)

    def on_test_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (module.config or {}).get("compile") and len(batch[0]) not in self.compiled:  # just now
            self.compiled.add(len(batch[0]))
            return
        self.scored += len(batch[0]) * trainer.world_size
        self.scoring += now(module.device) - self.asked

    def on_test_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.scoring and not module.blind:
            module.log("scored_per_second", self.scored / self.scoring, rank_zero_only=True)
        try:
            rate = drawn_per_second(module.flow, trainer.datamodule.splits.test.context, self.samples)
        except Refused:
            return
        module.log("samples_per_second", rate, rank_zero_only=True)


def drawn_per_second(flow: Flow, known: Context, n: int) -> float:
    """Samples per second of a flow that draws n at once, again and again for ``ENOUGH`` seconds, after one that warms up.

    ``known`` as for ``some_context``.
    """

    def draw(count: int) -> None:
        with noise.keyed(count):  # leaves the training noise where it was
            flow.sample(count, rows_of(some_context(flow, count, known), slice(None), flow.device))

    draw(1)
    began, times, seconds = now(flow.device), 0, 0.0
    while seconds < ENOUGH:
        draw(n)
        times, seconds = times + 1, now(flow.device) - began
    return times * n / seconds


def now(device: torch.device) -> float:
    """The time at which all work handed out so far is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return monotonic()
