"""Health: whether the inverse is one, and how much probability lies outside the data's range."""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from laminar.flows import noise
from laminar.flows.draw import at_once, some_context
from laminar.flows.space import rows_of


class Health(Callback):
    """Logs with each validation:

    ``health/inverse_error``: the largest |x - f^-1(f(x))| over n validation examples (fewer of large ones), in stored
    units: 0 for integers that the flow gives back exactly. Not for flows that draw on the way back.
    ``health/leak``: for integers, the share of n samples with a value outside the data's range before it is clamped.
    """

    def __init__(self, n: int = 64):
        self.n = n

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not (trainer.is_global_zero and module.scored):
            return
        flow, split = module.flow, trainer.datamodule.splits.val
        n = min(self.n, at_once(flow))
        if flow.invertible:
            x, context = split.values[:n].to(flow.device), rows_of(split.context, slice(n), flow.device)
            with noise.keyed(len(x)):
                back = flow.decode(flow.encode(x, context), context)
            error = (back.double() - x.double()).abs().max()
            module.log("health/inverse_error", error.float(), rank_zero_only=True)
        if flow.space.levels is not None:
            context = rows_of(some_context(flow, n, split.context), slice(n), flow.device)
            with noise.keyed(n):
                leak = flow.leak(n, context)
            module.log("health/leak", leak, rank_zero_only=True)
