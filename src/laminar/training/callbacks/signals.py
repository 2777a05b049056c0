"""Signals: Ctrl-C, SIGTERM and SIGUSR1 finish the step, save, and leave."""

import os
import signal
from time import monotonic
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from laminar.refused import STOPS
from laminar.training.callbacks.checkpoints import has_stepped
from laminar.training.ddp import agree

PATIENCE = 1.0  # seconds


class Signals(Callback):
    """The first signal in training ends the run after the current optimizer step, saved in ``last.ckpt``, with exit status
    128 + signal. A validation is broken off, and is the first thing that a resumed run does; the last one of a training is
    finished. A second signal leaves at once, with the previous ``last.ckpt``. Before and after training there is nothing to
    save, and the first one leaves at once, see ``stoppable``.

    Ranks agree every ``agree_every`` steps, or more often where steps take long, so that all stop at the same one.
    """

    def __init__(self, agree_every: int = 10):
        self.agree_every = agree_every
        self.received = self.agreed = 0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.received = self.agreed = 0
        self.every, self.looked, self.step = 1, monotonic(), trainer.global_step
        for number in STOPS:  # until Lightning's loop ends, which puts the handlers of before back
            signal.signal(number, self.receive)

    def receive(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            os._exit(128 + number)
        self.received = number

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not has_stepped(trainer, batch_idx):
            return
        if trainer.world_size == 1 or trainer.global_step % self.every == 0:
            self.agreed = agree(trainer, self.received)
            self.pace(trainer)
        if self.agreed:
            trainer.checkpoint_callback.requested = True

    def pace(self, trainer: pl.Trainer) -> None:
        """Steps to the next agreement: as many as the slowest rank takes in ``PATIENCE``."""
        now, step = monotonic(), trainer.global_step
        micros = agree(trainer, int(1e6 * (now - self.looked) / max(step - self.step, 1)))
        self.every = min(max(int(1e6 * PATIENCE / max(micros, 1)), 1), self.agree_every)
        self.looked, self.step = now, step

    def on_validation_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, *args: Any) -> None:
        if trainer.state.fn == "fit" and trainer.checkpoint_callback.planned:
            self.agreed = agree(trainer, self.received)
            if self.agreed:
                trainer.checkpoint_callback.break_off(trainer, module)
                self.leave(trainer)

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        self.leave(trainer)  # the step before is saved, and so is the validation due with it

    def on_train_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self.leave(trainer)

    def leave(self, trainer: pl.Trainer) -> None:
        if not self.agreed:
            return
        if trainer.is_global_zero:
            name, folder = signal.Signals(self.agreed).name, trainer.default_root_dir
            print(f"{name} after step {trainer.global_step}: go on with laminar-train resume={folder}", flush=True)
        raise SystemExit(128 + self.agreed)
