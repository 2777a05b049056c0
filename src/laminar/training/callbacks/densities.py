"""Densities: data, model and samples of the plane, after each validation and in the end."""

import pytorch_lightning as pl

from laminar.data.source import Split
from laminar.flows.flow import Flow
from laminar.pictures.densities import densities
from laminar.training.callbacks.artist import Artist


class Densities(Artist):
    """``samples/step-*.png`` after each validation, ``figures/density.png`` of the best weights; for 2-D data alone.

    Args:
        n: points shown of the data and of the model.
        every: validations from one picture to the next.
    """

    def __init__(self, n: int = 2000, every: int = 1):
        self.n, self.every, self.validations = n, every, 0

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.is_global_zero and trainer.state.fn == "fit" and module.flow.space.event == (2,):
            self.validations += 1
            if self.validations % self.every == 0:
                self.show(trainer, module.flow, trainer.datamodule.splits.val, f"samples/step-{trainer.global_step:07d}.png")

    def on_test_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.is_global_zero and module.flow.space.event == (2,):
            self.show(trainer, module.flow, trainer.datamodule.splits.test, "figures/density.png")

    def show(self, trainer: pl.Trainer, flow: Flow, split: Split, file: str) -> None:
        self.draw(trainer, file, lambda path: densities(flow, split.values, path, self.n, split.context))
