"""EMA: an exponential moving average of the weights, which validation, test and checkpoints use (Polyak averaging)."""

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor


class EMA(WeightAveraging):
    """average <- d_t * average + (1 - d_t) * weights after optimizer step t, with d_t = min(decay, (1 + t) / (10 + t)).

    So a young average forgets where it began: it never looks back further than about a tenth of the steps taken.
    Floating-point parameters and buffers are averaged; integers (permutations, counters, flags) are copied.
    """

    def __init__(self, decay: float = 0.999):
        def update(averages: list[Tensor], currents: list[Tensor], steps: Tensor | int) -> None:
            if averages[0].is_floating_point():
                t = int(steps)
                torch._foreach_lerp_(averages, currents, 1 - min(decay, (1 + t) / (10 + t)))
            else:
                torch._foreach_copy_(averages, currents)

        super().__init__(multi_avg_fn=update)

    # Lightning swaps the average in for every validation: before there is one, and over weights loaded from a checkpoint.

    def on_validation_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self._averages(trainer):
            super().on_validation_epoch_start(trainer, module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self._averages(trainer):
            module.put_back()  # what the average's validation refreshed is the average's
            super().on_validation_epoch_end(trainer, module)

    def _averages(self, trainer: pl.Trainer) -> bool:
        return trainer.state.fn == "fit" and self._average_model is not None and self._average_model.n_averaged > 0
