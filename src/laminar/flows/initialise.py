"""Initialise: parts that set themselves once by looking at a batch (actnorm, batch norm, data-dependent convolutions)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import distributed, nn

from laminar.refused import Refused

T = TypeVar("T")
_gathered: dict[int, Any] | None = None  # inside initialising(): what parts have gathered over its passes


@contextmanager
def initialising() -> Iterator[None]:
    """Inside, a pass in either direction lets parts that look at data set themselves once. No gradients.

    Each part sees an input that has passed through the already initialised parts before it. One pass is enough for most; a
    ``thorough`` part goes on learning with every further pass, and has learnt from all of them in the end.
    """
    global _gathered
    _gathered = {}
    try:
        with torch.no_grad():
            yield
    finally:
        _gathered = None


class SetByData(nn.Module):
    """A part that starts from a batch. Its subclass calls ``unset()`` with every pass, and ``settle()`` once it is set.

    The buffer ``initialized`` goes with the weights; a Python bool beside it spares every step a wait for the device.

    Attributes:
        thorough: whether it would start from all training rows, shown batch after batch, rather than from the first batch.
    """

    thorough = False

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
            return _gathered is not None and id(self) in _gathered
        if _gathered is not None:
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

    def gather(self, seen: T, merge: Callable[[T, T], T]) -> T:
        """What this pass saw, merged with what earlier passes inside the same ``initialising()`` saw."""
        if _gathered is not None:
            if id(self) in _gathered:
                seen = merge(_gathered[id(self)], seen)
            _gathered[id(self)] = seen
        return seen

    def settle(self) -> None:
        self.initialized.fill_(True)
        self._is_set = True

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any) -> None:
        state_dict.setdefault(prefix + "initialized", torch.tensor(True))  # weights from before a part had the buffer
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._is_set = self.initialized.is_meta or bool(self.initialized)
