"""Small runs for the engine's tests: configs as the command line composes them, and a callback that sends signals."""

import os
from pathlib import Path

import torch
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import Callback

from laminar.config.pages import compose
from laminar.flows import ledger
from laminar.refused import Refused
from laminar.runs.folder import write_config
from laminar.runs.run import run as laminars
from laminar.training.objective.likelihood import Likelihood

SMALL = (
    "flow=realnvp_flat",
    "logger=csv",
    "size.width=8",
    "size.steps=2",
    "data.batch_size=200",  # 6 steps an epoch
    "trainer.max_steps=20",
    "trainer.val_check_interval=4",
    "trainer.log_every_n_steps=1",
    "callbacks=[nonfinite,signals,checkpoints]",
)


def config(*overrides: str) -> dict:
    """The resolved config of a run on digits that takes about a second."""
    return OmegaConf.to_container(compose("train", [*SMALL, *overrides]), resolve=True)


def prepared(folder: Path, *overrides: str) -> dict:
    """The config, written where a run (and its further ranks) reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = config(*overrides)
    write_config(folder, plain)
    return plain


def run(plain: dict, folder: Path) -> dict:
    """A run that trusts the packages of its ``allow``, which for a command is what its words say."""
    return laminars(plain, folder, allow=plain["allow"])


class SignalAt(Callback):
    """Sends this process a signal when the batch that begins a training step (counted from 1) begins."""

    def __init__(self, step: int, number: int, times: int = 1, rank: int = 0):
        self.step, self.number, self.times, self.rank = step, number, times, rank

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        begins = trainer.global_step + 1 == self.step and batch_idx % trainer.accumulate_grad_batches == 0
        if begins and trainer.global_rank == self.rank:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


class SignalInValidation(Callback):
    """Sends this process a signal when a batch of a validation begins: those of validations counted from 1, batches from 0."""

    def __init__(self, validation: int, batch: int, number: int):
        self.validation, self.batch, self.number, self.seen = validation, batch, number, 0

    def on_validation_start(self, trainer, module) -> None:
        self.seen += trainer.state.fn == "fit"

    def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx, *args) -> None:
        if self.seen == self.validation and batch_idx == self.batch:
            os.kill(os.getpid(), self.number)


class Telling(Likelihood):
    """Notes how bright each example is, which anybody can work out from the data."""

    def __call__(self, flow, x, context, step):
        ledger.note("shade", x.double().flatten(1).mean(1))
        return super().__call__(flow, x, context, step)


class StopAt(Callback):
    """Dies when a training step begins, as a machine does: nothing is saved."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_start(self, trainer, *args) -> None:
        if trainer.global_step + 1 == self.step:
            raise RuntimeError("power cut")


class RefuseAt(Callback):
    """Says no when a training step begins."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_start(self, trainer, *args) -> None:
        if trainer.global_step + 1 == self.step:
            raise Refused(f"step {self.step} is refused")


class NaNAt(Callback):
    """Spoils the last entry of one weight when a training step begins."""

    def __init__(self, step: int, name: str, value: float = float("nan")):
        self.step, self.name, self.value = step, name, value

    def on_train_batch_start(self, trainer, module, *args) -> None:
        if trainer.global_step + 1 == self.step:
            with torch.no_grad():
                dict(module.flow.named_parameters())[self.name].view(-1)[-1] = self.value


def callback(kind: str, **options: int | str | float) -> list[str]:
    """Overrides that add a callback of this file to a run."""
    extra = ", ".join(f"{key}: {value}" for key, value in options.items())
    return ["allow=[engine]", f"+callbacks.{kind.lower()}={{_target_: engine.{kind}, {extra}}}"]
