"""Checkpoints: ``checkpoints/last.ckpt`` to go on from, ``checkpoints/best.ckpt`` to report."""

from math import inf, isfinite
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from laminar.config.formats import FORMAT


class Checkpoints(Checkpoint):
    """Saves the last state after every validation, and after ``every_n_steps`` optimizer steps if given; keeps the best.

    The best score (lowest ``val/bpd`` or ``val/nll``) is part of the state, the folder is not: a run may be renamed and
    resumed. A state with a weight that is not finite is never written.

    A save lies where Lightning can go on from exactly: after an optimizer step, or after the validation that follows it.
    """

    def __init__(self, every_n_steps: int | None = None):
        self.every_n_steps = every_n_steps
        self.best = inf
        self.requested = False  # by a callback that is about to end the run

    def path(self, trainer: pl.Trainer, name: str) -> Path:
        return Path(trainer.default_root_dir) / "checkpoints" / f"{name}.ckpt"

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        due = self.every_n_steps and trainer.global_step % self.every_n_steps == 0
        finished = trainer.global_step == trainer.max_steps
        unvalidated = trainer.is_last_batch and not trainer.enable_validation
        if has_stepped(trainer, batch_idx) and (self.requested or due or finished or unvalidated):
            self.save(trainer, "last")

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        score = trainer.callback_metrics[f"val/{module.unit}"].item() if module.scored else inf
        improved = isfinite(score) and score < self.best
        self.best = score if improved else self.best
        self.save(trainer, "last")
        if improved:
            self.save(trainer, "best")

    def save(self, trainer: pl.Trainer, name: str) -> None:
        norm = torch.nn.utils.get_total_norm(trainer.lightning_module.parameters())
        if norm.isfinite():
            trainer.save_checkpoint(self.path(trainer, name))

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["laminar"] = {"format": FORMAT, "config": module.config, "space": module.flow.space.plain()}

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]


def has_stepped(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether the optimizer has stepped after this batch: a checkpoint holds no gradients that wait for more."""
    return trainer.is_last_batch or (batch_idx + 1) % trainer.accumulate_grad_batches == 0
