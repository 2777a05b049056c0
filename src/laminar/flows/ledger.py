"""Where transforms note what a likelihood is made of: named terms (kl, distortion, nfe) beside the number itself.

Outside of ``noting()`` a note is nobody's, and costs nothing. Training closes the ledger before it goes backward, so that
blocks which are computed a second time there note nothing twice.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

Notes = dict[str, list[Tensor]]

_ledger: ContextVar[Notes | None] = ContextVar("ledger", default=None)


def note(name: str, values: Tensor) -> None:
    """One number for each example, ``(B,)``, under a name."""
    notes = _ledger.get()
    if notes is not None:
        notes.setdefault(name, []).append(values.detach())


@contextmanager
def noting() -> Iterator[Notes]:
    """Gives what is noted inside: name -> the tensors noted under it, in order."""
    notes: Notes = {}
    token = _ledger.set(notes)
    try:
        yield notes
    finally:
        _ledger.reset(token)
