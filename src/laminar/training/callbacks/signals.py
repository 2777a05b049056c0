"""Signals: Ctrl-C, SIGTERM and SIGUSR1 finish the step, save, and leave."""

import os
import signal
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from laminar.refused import STOPS
from laminar.training.callbacks.checkpoints import has_stepped
from laminar.training.ddp import agree


class Signals(Callback):
    """The first signal in training ends the run after the current optimizer step (and the validation due with it), saved
    in ``last.ckpt``, with exit status 128 + signal. A second one leaves at once, with the previous ``last.ckpt``. Before
    and after training there is nothing to save, and the first one leaves at once, see ``stoppable``.

    Ranks agree every ``agree_every`` steps, so that all stop at the same one.
    """

    def __init__(self, agree_every: int = 10):
        self.agree_every = agree_every
        self.received = self.agreed = 0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.received = self.agreed = 0
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
        if trainer.world_size == 1 or trainer.global_step % self.agree_every == 0:
            self.agreed = agree(trainer, self.received)
        if self.agreed:
            trainer.checkpoint_callback.requested = True

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
