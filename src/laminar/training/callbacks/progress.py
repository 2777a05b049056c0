"""Progress: a bar where somebody watches, a line for each validation where nobody does."""

import sys
from time import monotonic
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from rich import progress


class Progress(ProgressBar):
    """One bar of optimizer steps on a terminal. Into a file or a pipe it writes a line after each validation instead."""

    def __init__(self, every_n_steps: int = 10):
        super().__init__()
        self.every_n_steps = every_n_steps
        self.bar: progress.Progress | None = None

    def disable(self) -> None:
        self.every_n_steps = 0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.began = monotonic()
        if self.every_n_steps and sys.stdout.isatty():
            columns = ("{task.description}", progress.BarColumn(), progress.MofNCompleteColumn())
            times = (progress.TimeElapsedColumn(), progress.TimeRemainingColumn())
            self.bar = progress.Progress(*columns, *times, "{task.fields[scores]}", transient=True)
            self.bar.start()
            self.task = self.bar.add_task("training", total=_steps(trainer), scores="")

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *args: Any) -> None:
        if self.bar and trainer.global_step % self.every_n_steps == 0:
            self.bar.update(self.task, completed=trainer.global_step, scores=_scores(trainer, module))

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.every_n_steps and not self.bar and trainer.state.fn == "fit":
            seconds = monotonic() - self.began
            print(f"step {trainer.global_step:>7}  {seconds:8.1f} s  {_scores(trainer, module)}", flush=True)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.close()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        self.close()

    def close(self) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None


def _steps(trainer: pl.Trainer) -> int | None:
    """How many steps there will be; None where time or epochs without end decide."""
    steps = trainer.estimated_stepping_batches
    return steps if 0 < steps < float("inf") else None


def _scores(trainer: pl.Trainer, module: pl.LightningModule) -> str:
    names = [module.train_name, f"val/{module.objective.unit}", *([f"val/{module.unit}"] if module.scored else [])]
    return "  ".join(f"{name} {trainer.callback_metrics[name]:.4f}" for name in names if name in trainer.callback_metrics)
