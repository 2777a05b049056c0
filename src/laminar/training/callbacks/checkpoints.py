"""Checkpoints: ``checkpoints/last.ckpt`` to go on from, ``checkpoints/best.ckpt`` to report."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from math import inf, isfinite
from pathlib import Path
from time import monotonic
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint, WeightAveraging

from laminar.config.formats import FORMAT
from laminar.training.logger.open import begin, settle


class Checkpoints(Checkpoint):
    """Saves the last state after every validation, and after ``every_n_steps`` optimizer steps if given; keeps the best.

    Training ends with a validation of its last weights. The best score (lowest ``val/bpd`` or ``val/nll``) is part of the
    state, the folder is not: a run may be renamed and resumed. A state with a weight that is not finite is never written.

    A save lies where Lightning can go on from exactly: after an optimizer step where no validation is due, or after the
    validation, so that none is ever missed; or before one that is broken off, which a resumed run does first. What the run has
    logged by then is on the disk before it, and so is ``best.ckpt`` before the ``last.ckpt`` that knows its score.
    """

    def __init__(self, every_n_steps: int | None = None):
        self.every_n_steps = every_n_steps
        self.best = inf
        self.earlier = 0.0  # seconds of training behind the checkpoint that this run goes on from
        self.prepared, self.began = 0.0, monotonic()  # those before this run's first step; when that was
        self.requested = False  # by a callback that is about to end the run
        self.planned = True  # the validation at hand, by the trainer's interval: the last one may come before its time

    def path(self, trainer: pl.Trainer, name: str) -> Path:
        return Path(trainer.default_root_dir) / "checkpoints" / f"{name}.ckpt"

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.datamodule.changed:
            self.best = inf
        self.began = monotonic()
        begin(trainer.loggers, trainer.global_step)

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step  # of the loggers; a resume may set it back

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not has_stepped(trainer, batch_idx):
            return
        stops, trainer.should_stop = trainer.should_stop or ends(trainer), False
        self.planned = validates(trainer)
        if stops:  # a trainer that is to stop validates first, in any epoch that may be validated
            trainer.should_stop = True
            trainer.check_val_every_n_epoch = trainer.check_val_every_n_epoch and 1
        due = self.every_n_steps and trainer.global_step % self.every_n_steps == 0
        if (self.requested or due or stops) and not validates(trainer):
            trainer._logger_connector.update_train_step_metrics()  # Lightning would log this step after its end
            self.save(trainer, "last")

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        score = trainer.callback_metrics[f"val/{module.unit}"].item() if module.scored else inf
        improved = isfinite(score) and score < self.best
        self.best = score if improved else self.best
        if improved or (trainer.should_stop and not self.path(trainer, "best").exists()):
            self.save(trainer, "best")
        with nullcontext() if self.planned else as_after_batch(trainer):
            self.save(trainer, "last")

    def break_off(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Saves the state that a planned validation, in the middle of which this is, had found."""
        for callback in trainer.callbacks:
            if isinstance(callback, WeightAveraging):  # it has lent the average
                callback.on_validation_epoch_end(trainer, module)
        module.break_off()
        progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
        done = progress.current.completed
        for counted in (progress.total, progress.current):  # as Lightning begins a first batch
            counted.completed -= done
            counted.processed = counted.completed
            counted.ready = counted.started = counted.completed + 1
        self.save(trainer, "last")

    def save(self, trainer: pl.Trainer, name: str) -> None:
        norm = torch.nn.utils.get_total_norm(trainer.lightning_module.parameters())
        if norm.isfinite():
            settle(trainer.loggers)
            trainer.save_checkpoint(self.path(trainer, name))

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        known = {"format": FORMAT, "config": module.config, "space": module.flow.space.plain()}
        known["seconds"] = self.earlier + self.prepared + monotonic() - self.began
        checkpoint["laminar"] = known | ({"data": trainer.datamodule.known()} if trainer.is_global_zero else {})

    def on_load_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        self.earlier = checkpoint["laminar"].get("seconds", 0.0)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]


def has_stepped(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether the optimizer has stepped after this batch: a checkpoint holds no gradients that wait for more."""
    return trainer.is_last_batch or (batch_idx + 1) % trainer.accumulate_grad_batches == 0


def ends(trainer: pl.Trainer) -> bool:
    """Whether this optimizer step was the last of the run's budget."""
    epochs = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs > 0 else inf
    in_last_epoch = trainer.is_last_batch and trainer.current_epoch + 1 >= epochs
    return 0 < trainer.max_steps <= trainer.global_step or in_last_epoch


def validates(trainer: pl.Trainer) -> bool:
    """Whether a validation follows this batch."""
    loop = trainer.fit_loop
    return loop.epoch_loop._should_check_val_fx(loop._data_fetcher)


@contextmanager
def as_after_batch(trainer: pl.Trainer) -> Iterator[None]:
    """Inside, the trainer's progress is that of a batch's end: where Lightning goes on from if it has no validation to skip."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    for counted in (progress.total, progress.current):
        counted.completed -= 1
    try:
        yield
    finally:
        for counted in (progress.total, progress.current):
            counted.completed += 1
