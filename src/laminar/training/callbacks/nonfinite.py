"""NonFinite: a loss that is not finite ends the run, and the sentence names the first layer at fault."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from laminar.training.ddp import agree, first_said


class Diverged(RuntimeError):
    """The loss is not finite. The message names the step and the first layer whose result is not finite."""


class NonFinite(Callback):
    """Looks at the loss before every backward pass on one CPU, so that no weight is spoilt; elsewhere, where a look costs
    a wait, every ``every_n_steps``: a NaN reaches all weights, so it does not go away."""

    def __init__(self, every_n_steps: int = 50):
        self.every_n_steps = every_n_steps

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        self.batch, self.batch_idx = batch, batch_idx

    def on_before_backward(self, trainer: pl.Trainer, module: pl.LightningModule, loss: Tensor) -> None:
        at_once = trainer.world_size == 1 and loss.device.type == "cpu"
        if not at_once and self.batch_idx % self.every_n_steps:
            return
        finite = bool(loss.isfinite())
        if not agree(trainer, int(not finite)):
            return
        fault = first_said(trainer, None if finite else first_fault(module, self.batch, self.batch_idx))
        raise Diverged(
            f"the loss is not finite at step {trainer.global_step}: {fault}; the checkpoints of before are kept: "
            "try a lower optimizer.lr, scheduler=warmup or trainer.gradient_clip_val"
        )


@torch.no_grad()
def first_fault(module: pl.LightningModule, batch: Any, batch_idx: int) -> str:
    """Replays a training batch and names the first layer, in the order of work, whose weights or results are not finite."""
    faults: list[str] = []

    def look(name: str):
        def hook(layer: nn.Module, inputs: Any, outputs: Any) -> None:
            if faults:
                return
            results = outputs if isinstance(outputs, tuple) else (outputs,)
            if not _finite(layer.parameters(recurse=False)):
                faults.append(f"first a weight of {name} ({type(layer).__name__})")
            elif not _finite(results):
                what = "output" if not _finite(results[:1]) else "contribution"
                faults.append(f"first the {what} of {name} ({type(layer).__name__})")

        return hook

    hooks = [layer.register_forward_hook(look(name)) for name, layer in module.flow.named_modules() if name]
    try:
        module.ask(module.objective, batch, "train", batch_idx)
    finally:
        for hook in hooks:
            hook.remove()
    return faults[0] if faults else f"every layer is finite, the prior ({type(module.flow.prior).__name__}) is not"


def _finite(tensors: Any) -> bool:
    return all(bool(t.isfinite().all()) for t in tensors if isinstance(t, Tensor) and t.is_floating_point())
