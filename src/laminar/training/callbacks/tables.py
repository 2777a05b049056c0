"""Tables: the columns of a table, data beside samples, after each validation and in the end."""

import pytorch_lightning as pl

from laminar.flows.draw import draw, some_context
from laminar.flows.space import rows_of
from laminar.pictures.pairs import marginals, pairs
from laminar.training.callbacks.artist import Artist


class Tables(Artist):
    """``samples/step-*.png`` after each validation, ``figures/pairs.png`` and ``figures/marginals.png`` of the best weights;
    for data whose columns have names alone. Samples of a conditional flow are given the shown rows' own context.

    Args:
        n: rows shown of the data and of the model.
        every: validations from one picture to the next.
    """

    def __init__(self, n: int = 2000, every: int = 10):
        self.n, self.every, self.validations = n, every, 0

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.is_global_zero and trainer.state.fn == "fit" and trainer.datamodule.source.columns is not None:
            self.validations += 1
            if self.validations % self.every == 0:
                self.show(trainer, module, "val", {"pairs": f"samples/step-{trainer.global_step:07d}.png"})

    def on_test_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.is_global_zero and trainer.datamodule.source.columns is not None:
            self.show(trainer, module, "test", {"pairs": "figures/pairs.png", "marginals": "figures/marginals.png"})

    def show(self, trainer: pl.Trainer, module: pl.LightningModule, name: str, files: dict[str, str]) -> None:
        data, flow = trainer.datamodule, module.flow
        split = getattr(data.splits, name)
        rows = slice(min(self.n, len(split)))
        shown, context = split.values[rows], rows_of(split.context, rows)
        drawn = self.tried("samples", lambda: draw(flow, len(shown), some_context(flow, len(shown), context)))
        if drawn is None:
            return
        levels, steps = (flow.space.per_element(kind, default=0.0).tolist() for kind in ("levels", "rounded"))
        widths = [1.0 if level else step or None for level, step in zip(levels, steps, strict=True)]
        for kind, file in files.items():
            picture = pairs if kind == "pairs" else marginals
            self.draw(trainer, file, lambda path, picture=picture: picture(shown, drawn, data.source.columns, path, widths))
