"""EMA: an exponential moving average of the weights, which validation, test and checkpoints use (Polyak averaging)."""

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor


class EMA(WeightAveraging):
    """average <- decay * average + (1 - decay) * weights after every optimizer step, beginning at the first step's weights.

    Floating-point parameters and buffers are averaged; integers (permutations, counters, flags) are copied.
    """

    def __init__(self, decay: float = 0.999):
        def update(averages: list[Tensor], currents: list[Tensor], steps: Tensor | int) -> None:
            if averages[0].is_floating_point():
                torch._foreach_lerp_(averages, currents, 1 - decay)
            else:
                torch._foreach_copy_(averages, currents)

        super().__init__(multi_avg_fn=update)

    def on_validation_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self._average_model is not None and self._average_model.n_averaged > 0:
            super().on_validation_epoch_start(trainer, module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self._average_model is not None and self._average_model.n_averaged > 0:
            super().on_validation_epoch_end(trainer, module)
