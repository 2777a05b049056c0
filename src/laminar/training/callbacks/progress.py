"""Progress: a bar where somebody watches, lines where nobody does."""

import sys
from time import monotonic
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar, Timer
from rich import progress


class Progress(ProgressBar):
    """One bar of optimizer steps on a terminal. Into a file or a pipe it writes a line after each validation instead, and
    one whenever it has been silent for ``every_n_seconds``: in training, in a long validation, in the test.

    Args:
        every_n_steps: of the bar.
        every_n_seconds: between lines.
    """

    def __init__(self, every_n_steps: int = 10, every_n_seconds: float = 30.0):
        super().__init__()
        self.every_n_steps, self.every_n_seconds = every_n_steps, every_n_seconds
        self.bar: progress.Progress | None = None
        self.said = monotonic()  # when the last line was written

    def disable(self) -> None:
        """Lightning's word to all ranks but the first."""
        self.every_n_steps = 0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.began, self.first = monotonic(), trainer.global_step
        self.since, self.examples, self.rate = self.began, 0, None
        self.usual: float | None = None  # since when steps take as long as they will
        if self.every_n_steps and sys.stdout.isatty():
            columns = ("{task.description}", progress.BarColumn(), progress.MofNCompleteColumn())
            times = (progress.TimeElapsedColumn(), progress.TimeRemainingColumn())
            self.bar = progress.Progress(*columns, *times, "{task.fields[scores]}", transient=True)
            self.bar.start()
            self.task = self.bar.add_task("training", total=_steps(trainer), scores="")

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.examples += len(batch[0]) * trainer.world_size
        if self.usual is None and trainer.global_step > self.first:  # which sets up, or compiles
            self.usual, self.first = monotonic(), trainer.global_step
        if self.bar and trainer.global_step % self.every_n_steps == 0:
            self.measure()
            self.bar.update(self.task, completed=trainer.global_step, scores=f"{self.speed()}{_scores(trainer, module)}")
        elif self.due():
            self.measure()
            self.say(f"{self.place(trainer)}{_scores(trainer, module)}")

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit":
            self.measure()

    def on_validation_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *args: Any
    ) -> None:
        if self.due():
            of = sum(trainer.num_val_batches)
            self.say(f"{self.place(trainer) if trainer.state.fn == 'fit' else ''}validation, batch {batch_idx + 1:,} of {of:,}")

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.every_n_steps and trainer.state.fn == "fit":
            self.since, self.examples = monotonic(), 0
            if not self.bar:
                self.say(f"{self.place(trainer)}{_scores(trainer, module)}")

    def on_test_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *args: Any
    ) -> None:
        if self.due():
            self.say(f"test, batch {batch_idx + 1:,} of {sum(trainer.num_test_batches):,}")

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.close()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        self.close()

    def close(self) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None

    def due(self) -> bool:
        """Whether a line is, where there is no bar."""
        return bool(self.every_n_steps) and not self.bar and monotonic() - self.said >= self.every_n_seconds

    def say(self, line: str) -> None:
        print(line, flush=True)
        self.said = monotonic()

    def measure(self) -> None:
        """Examples trained on per second, over all ranks, since the last line or validation."""
        seconds = monotonic() - self.since
        if self.examples and seconds > 0:
            self.rate = self.examples / seconds
            self.since, self.examples = monotonic(), 0

    def place(self, trainer: pl.Trainer) -> str:
        """How far training is, for how long it has been going, how fast it is, and how long it will go on."""
        step, total = trainer.global_step, _steps(trainer)
        of = f" of {total:,}" if total else ""
        left = self.left(trainer, total)
        text = f"step {step:>7,}{of}  {monotonic() - self.began:8.1f} s  {self.speed()}"
        return text if left is None else f"{text}{_spelt(left)} left  "

    def speed(self) -> str:
        return "" if self.rate is None else f"{self.rate:,.{0 if self.rate >= 10 else 1}f} examples/s  "

    def left(self, trainer: pl.Trainer, total: int | None) -> float | None:
        """Seconds to the end of the budget, validations among them: by steps, or by the clock where that comes first."""
        done = trainer.global_step - self.first
        if total and trainer.global_step >= total:
            return None
        steps = [(total - trainer.global_step) / done * (monotonic() - self.usual)] if total and done else []
        timers = [callback.time_remaining() for callback in trainer.callbacks if isinstance(callback, Timer)]
        return min([*steps, *(max(0.0, seconds) for seconds in timers if seconds is not None)], default=None)


def _steps(trainer: pl.Trainer) -> int | None:
    """How many steps there will be; None where time or epochs without end decide."""
    steps = trainer.estimated_stepping_batches
    return steps if 0 < steps < float("inf") else None


def _spelt(seconds: float) -> str:
    """``45 s``, ``12 min`` or ``3 h 05 min``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _scores(trainer: pl.Trainer, module: pl.LightningModule) -> str:
    names = [module.train_name, f"val/{module.objective.unit}", *([f"val/{module.unit}"] if module.scored else [])]
    numbers = trainer.callback_metrics | module.latest
    return "  ".join(f"{name} {numbers[name]:.4f}" for name in names if name in numbers)
