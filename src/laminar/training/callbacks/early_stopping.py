"""EarlyStopping: an end to training that validation no longer rewards."""

from math import inf

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping as Lightnings


class EarlyStopping(Lightnings):
    """Ends training after ``patience`` validations in a row without an improvement of the score: ``val/bpd``, ``val/nll``.

    Judges after validations alone, never at an epoch's end, which a resumed run passes a second time.
    """

    def __init__(self, patience: int = 10, min_delta: float = 0.0):
        super().__init__("val", patience=patience, min_delta=min_delta, mode="min", check_on_train_epoch_end=False)

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        self.monitor = f"val/{module.unit}"
        super().setup(trainer, module, stage)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.datamodule.changed:
            self.best_score = torch.tensor(inf)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if module.scored:
            super().on_validation_end(trainer, module)
