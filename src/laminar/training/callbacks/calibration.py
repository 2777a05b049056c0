"""Calibration: whether what a conditional flow says of the test rows is as sure as it should be."""

from pathlib import Path

import pytorch_lightning as pl

from laminar.flows.space import rows_of
from laminar.pictures.calibration import calibration, ranks
from laminar.training.callbacks.artist import Artist


class Calibration(Artist):
    """``figures/calibration.png`` of the best weights: ranks of test rows among draws given their context. For vectors of real
    numbers, given something.

    Args:
        n: test rows.
        draws: for each of them.
    """

    def __init__(self, n: int = 1000, draws: int = 63):
        self.n, self.draws = n, draws

    def on_test_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        flow, data = module.flow, trainer.datamodule
        if not (trainer.is_global_zero and flow.conditional and flow.space.is_vector and flow.space.exact):
            return
        split = data.splits.test
        rows = slice(min(self.n, len(split)))
        names = data.source.columns or [f"x{place}" for place in range(flow.space.size)]

        def make(path: Path) -> None:
            found = ranks(flow, split.values[rows], rows_of(split.context, rows), self.draws)
            calibration(found, self.draws, names, path)

        self.draw(trainer, "figures/calibration.png", make)
