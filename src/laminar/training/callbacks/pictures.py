"""Pictures: what an image flow draws, while it learns and in the end."""

from functools import partial
from time import monotonic

import pytorch_lightning as pl
from PIL import Image

from laminar.flows.draw import classes_of
from laminar.flows.flow import Flow
from laminar.flows.space import rows_of
from laminar.pictures import bits, images, latents, traversals
from laminar.pictures.sheet import save
from laminar.training.callbacks.artist import Artist

SHARE, LONGEST = 0.02, 60.0  # of the training's time, and seconds, that a bits map may take


class Pictures(Artist):
    """``samples/step-*.png`` after each validation; of the best weights, with the test, all that is worth a look.

    Args:
        n: samples in a grid.
        every: validations from one grid to the next.
    """

    def __init__(self, n: int = 64, every: int = 1):
        self.n, self.every, self.validations = n, every, 0
        self.began = self.trained = 0.0

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.began = monotonic()

    def on_fit_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.trained = monotonic() - self.began

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not (trainer.is_global_zero and trainer.state.fn == "fit" and module.scored and module.flow.space.is_image):
            return
        self.validations += 1
        if self.validations % self.every == 0:
            known = trainer.datamodule.splits.val.context
            sheet = partial(images.samples, module.flow, self.n, title="Samples", known=known)
            self.draw(trainer, f"samples/step-{trainer.global_step:07d}.png", lambda path: save(sheet(), path))

    def on_test_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.is_global_zero and module.flow.space.is_image:
            split = trainer.datamodule.splits.test
            for file, sheet in portfolio(module.flow, split, self.n).items():
                self.draw(trainer, file, lambda path, sheet=sheet: save(sheet(), path))
            some, context = split.values[:4], rows_of(split.context, slice(4))
            seconds = max(bits.SECONDS, min(LONGEST, SHARE * self.trained))
            self.draw(trainer, "figures/bits.png", lambda path: bits.bits_map(module.flow, some, path, context, seconds))


def portfolio(flow: Flow, split, n: int) -> dict[str, partial[Image.Image]]:
    """Every sheet that makes sense for a flow: file -> what draws it."""
    x, known, half = split.values[:10], split.context, min(10, len(split)) // 2
    between = traversals.interpolations if traversals.coded(flow) else latents.interpolations
    sheets = {
        "samples/best.png": partial(images.samples, flow, n, title="Samples", known=known),
        "samples/temperatures.png": partial(images.temperatures, flow, known=known),
        "figures/interpolations.png": partial(between, flow, x[:half], x[half : 2 * half], rows_of(known, slice(half))),
    }
    if flow.invertible:
        sheets["figures/reconstructions.png"] = partial(latents.reconstructions, flow, x, rows_of(known, slice(10)))
    if classes_of(flow):
        sheets["samples/classes.png"] = partial(images.by_class, flow)
    if images.multiscale_of(flow):
        sheets["figures/levels.png"] = partial(images.by_level, flow, known=known)
    return sheets
