"""Progress: a bar where somebody watches, a line for each validation where nobody does."""

import sys
from time import monotonic

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar


class Progress(RichProgressBar):
    """Rich's bar on a terminal. Into a file or a pipe it writes step, time and scores after each validation instead."""

    def __init__(self, refresh_rate: int = 10):
        super().__init__(refresh_rate=refresh_rate)
        if not sys.stdout.isatty():
            self.disable()

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        super().on_train_start(trainer, module)
        self.began = monotonic()

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, module)
        if self.is_enabled or trainer.state.fn != "fit" or not trainer.is_global_zero:
            return
        names = [f"{stage}/{module.unit}" for stage in ("train", "val")]
        scores = "  ".join(f"{name} {trainer.callback_metrics[name]:.4f}" for name in names)
        print(f"step {trainer.global_step:>7}  {monotonic() - self.began:8.1f} s  {scores}", flush=True)
