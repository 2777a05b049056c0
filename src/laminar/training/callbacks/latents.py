"""Latents: what the latent variables of a variational autoencoder hold."""

from collections.abc import Callable
from functools import partial

import pytorch_lightning as pl

from laminar.flows.compose.chain import links_of
from laminar.flows.draw import at_once
from laminar.flows.layer.latent import Latent
from laminar.flows.layer.variational import Variational
from laminar.flows.space import rows_of
from laminar.pictures.codes import activity, aggregate, codes, latent_map
from laminar.pictures.sheet import save
from laminar.pictures.traversals import reconstructions, traversals
from laminar.training.callbacks.artist import Artist


class Latents(Artist):
    """With the test of a flow of latent variables: ``test/active_units``, and in ``figures/``

    ``reconstructions.png``  images, and what comes back of their codes
    ``traversals.png``       what each of the most active latents changes in an image
    ``latents.png``          the KL of each latent, and how much its mean varies over the data
    ``aggregate.png``        the codes of all data in each of the most active latents, and the prior
    ``latent_map.png``       the codes in the plane, by class

    Of a ladder of latents (layer=bidirectional) there are reconstructions alone.

    Args:
        rows: test examples that are looked at.
        draws: codes of each.
    """

    def __init__(self, rows: int = 1000, draws: int = 64):
        self.rows, self.draws = rows, draws
        self.figures: dict[str, Callable[..., object]] = {}

    def on_test_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        flow, split = module.flow, trainer.datamodule.splits.test
        stops = [link for link in links_of(flow.transform) if isinstance(link, Latent)]
        if not trainer.is_global_zero or len(stops) != 1:
            return
        rows = slice(min(self.rows, at_once(flow), len(split)))
        some, one = (rows_of(split.context, part) for part in (slice(10), slice(1)))
        self.figures = figures = {}
        if flow.space.is_image:
            sheet = partial(reconstructions, flow, split.values[:10], some)
            figures["reconstructions"] = lambda path: save(sheet(), path)
        found = None
        if isinstance(stops[0], Variational):
            seen = rows_of(split.context, rows)
            found = self.tried("codes", lambda: codes(flow, split.values[rows], seen, self.draws))
        if found is not None:
            module.log("test/active_units", float(found.active), rank_zero_only=True)
            figures |= {"latents": partial(activity, found), "aggregate": partial(aggregate, found)}
            if flow.space.is_image:
                moved = partial(traversals, flow, split.values[:1], found, one)
                figures["traversals"] = lambda path: save(moved(), path)
            if found.draws.shape[-1] > 1:
                labels = None if split.labels is None else split.labels[rows]
                figures["latent_map"] = partial(latent_map, found, labels)

    def on_test_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        for name, make in self.figures.items():
            self.draw(trainer, f"figures/{name}.png", lambda path, make=make: make(path=path))
