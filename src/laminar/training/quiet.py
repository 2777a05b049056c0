"""Quiet: a step without what does nothing, which small flows would spend more time on than on their own work."""

from collections.abc import Iterable

import torch
from pytorch_lightning import Callback

STEP = (
    *("on_train_batch_start", "on_before_zero_grad", "on_before_backward"),
    *("on_after_backward", "on_before_optimizer_step", "on_train_batch_end"),
)


def silence(callbacks: Iterable[Callback]) -> None:
    """Takes away the hooks of a step that callbacks leave empty: Lightning opens a profiler's record for each call."""
    for callback in callbacks:
        for hook in STEP:
            if getattr(type(callback), hook) is getattr(Callback, hook):
                setattr(callback, hook, None)  # which it passes over


def reseed(seed: int, device: torch.device) -> None:
    """Seeds the CPU's generator and the device's, as ``torch.manual_seed`` does, which formats a stack trace for each kind of
    device that the process never used."""
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
