"""Masks: the gallery of what each coupling is given and what it moves, before the training."""

import pytorch_lightning as pl

from laminar.pictures.masks import gallery, patterns
from laminar.pictures.sheet import save
from laminar.training.callbacks.artist import Artist


class Masks(Artist):
    """``figures/masks.png``, for flows that have couplings."""

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.is_global_zero and any(True for _ in patterns(module.flow)):
            self.draw(trainer, "figures/masks.png", lambda path: save(gallery(module.flow), path))
