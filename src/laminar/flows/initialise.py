"""Initialise: parts that set themselves once by looking at a batch (actnorm, batch norm, data-dependent convolutions)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed, nn

from laminar.refused import Refused

_initialising = False


@contextmanager
def initialising() -> Iterator[None]:
    """Inside, a pass in either direction lets parts that look at data set themselves once. No gradients.

    Each part sees an input that has passed through the already initialised parts before it.
    """
    global _initialising
    _initialising = True
    try:
        with torch.no_grad():
            yield
    finally:
        _initialising = False


class SetByData(nn.Module):
    """A part that starts from a batch. Its subclass calls ``unset()`` with every pass, and ``settle()`` once it is set.

    The buffer ``initialized`` goes with the weights; a Python bool beside it spares every step a wait for the device.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.register_buffer("initialized", torch.zeros((), dtype=torch.bool))
        self._is_set = False

    def unset(self) -> bool:
        """Whether this pass is the one that sets the part: inside ``initialising()``, or the first one in training.

        Elsewhere an unset part refuses: it would silently be the identity, and under several processes each would set it
        by rows of its own.
        """
        if self._is_set:
            return False
        if _initialising:
            return True
        name = type(self).__name__
        if not self.training:
            raise Refused(
                f"{name} has never seen data: load trained weights, or show the flow a batch by "
                "`with initialising(): flow.log_prob(batch)` before evaluation"
            )
        if distributed.is_available() and distributed.is_initialized():
            raise Refused(
                f"{name} has never seen data, and every process would start it by rows of its own: call "
                "`with initialising(): flow.log_prob(batch)` with the same batch on each, before the training"
            )
        return True

    def settle(self) -> None:
        self.initialized.fill_(True)
        self._is_set = True

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any) -> None:
        state_dict.setdefault(prefix + "initialized", torch.tensor(True))  # weights from before a part had the buffer
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._is_set = self.initialized.is_meta or bool(self.initialized)
