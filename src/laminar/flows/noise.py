"""Where transforms draw.

Every random number of a likelihood comes from ``uniform`` or ``normal``. Inside ``source(keys)`` row i of a draw is a
function of ``keys[i]`` alone, so the noise behind an example's likelihood depends on neither the batch it sits in, nor
the rank, nor on what was drawn before. Without a source, draws come from torch's global generator.

What an estimate of a log-det draws (``estimating``) has a stream of its own, so that the model's draws stay as they are
when the estimate is repeated, or made exact.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

DRAW = 0xD4A3
ESTIMATE = 0xE571


class _Generators:
    """One stream for each row: ``generators[i]`` is seeded by ``keys[i]`` and goes on from draw to draw."""

    def __init__(self, keys: np.ndarray, number: int = 0):
        self.keys, self.number = keys, number

    @cached_property
    def generators(self) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(key) for key in self.keys.tolist()]

    @cached_property
    def estimates(self) -> "_Generators":
        return _Generators(mix(self.keys, ESTIMATE, self.number))

    def copies(self, first: int, count: int) -> "_Generators":
        copy = np.arange(first, first + count, dtype=np.uint64)
        return _Generators(mix(self.keys[None, :], copy[:, None]).reshape(-1), self.number)

    def repeat(self, number: int) -> "_Generators":
        return _Generators(self.keys, number)

    def draw(self, kind: str, like: Tensor) -> Tensor:
        if len(like) != len(self.keys):
            raise RuntimeError(f"a draw of {len(like)} rows inside a noise source of {len(self.keys)} rows")
        out = torch.empty(like.shape, dtype=like.dtype, pin_memory=like.is_cuda)
        for row, generator in zip(out, self.generators, strict=True):
            getattr(row, kind)(generator=generator)
        return out.to(like.device, non_blocking=True)


class _Centre:
    """The middle of every distribution: uniform draws are 1/2, normal draws are 0."""

    @property
    def estimates(self) -> "_Centre":
        return self

    def copies(self, first: int, count: int) -> "_Centre":
        return self

    def repeat(self, number: int) -> "_Centre":
        return self

    def draw(self, kind: str, like: Tensor) -> Tensor:
        return torch.full_like(like, 0.5 if kind == "uniform_" else 0.0)


_source: ContextVar[_Generators | _Centre | None] = ContextVar("noise_source", default=None)


def uniform(like: Tensor) -> Tensor:
    """Uniform on [0, 1), of the shape, type and device of ``like``."""
    return _draw("uniform_", like)


def normal(like: Tensor) -> Tensor:
    """Standard normal, of the shape, type and device of ``like``."""
    return _draw("normal_", like)


def _draw(kind: str, like: Tensor) -> Tensor:
    current = _source.get()
    return getattr(torch.empty_like(like), kind)() if current is None else current.draw(kind, like)


def mix(*words) -> np.ndarray:
    """Mixes integers (broadcasting arrays) to well-spread 64-bit keys: SplitMix64's finaliser, word after word."""
    with np.errstate(over="ignore"):
        key = np.uint64(0)
        for word in words:
            key = (key ^ np.asarray(word).astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
            key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            key = key ^ (key >> np.uint64(31))
    return key


def keys_are_given() -> bool:
    """Whether rows have keys here: a source is open."""
    return _source.get() is not None


@contextmanager
def source(keys: np.ndarray) -> Iterator[None]:
    """Draws inside depend on the rows' keys ``(B,)`` alone (see ``mix``)."""
    with _opened(_Generators(np.asarray(keys, dtype=np.uint64))):
        yield


@contextmanager
def keyed(n: int, seed: int = 0, first: int = 0) -> Iterator[None]:
    """Inside, row i of a draw depends on (seed, first + i) alone, and the training noise stays where it was. No gradients."""
    with torch.no_grad(), source(mix(seed, DRAW, np.arange(first, first + n))):
        yield


@contextmanager
def centre() -> Iterator[None]:
    """Draws inside are the centres of their distributions: the way to encode or decode without noise."""
    with _opened(_Centre()):
        yield


@contextmanager
def copies(first: int, count: int) -> Iterator[None]:
    """For a batch repeated ``count`` times along its rows: copy k of a row draws by (its key, first + k)."""
    current = _source.get()
    with _opened(current and current.copies(first, count)):
        yield


@contextmanager
def estimating() -> Iterator[None]:
    """Draws inside are an estimate's: by (the row's key, the number of the repeat)."""
    current = _source.get()
    with _opened(current and current.estimates):
        yield


@contextmanager
def kept(n: int) -> Iterator[None]:
    """Inside, rows have keys, so that draws can be repeated: those of the source, or n of torch's global generator."""
    if _source.get() is not None:
        yield
        return
    with source(torch.randint(2**62, (n,)).numpy()):
        yield


@contextmanager
def repeat(number: int) -> Iterator[None]:
    """Inside, the model's draws begin anew, the same for every number, and estimates are those of this number."""
    current = _source.get()
    with _opened(current and current.repeat(number)):
        yield


@contextmanager
def _opened(new: _Generators | _Centre | None) -> Iterator[None]:
    token = _source.set(new)
    try:
        yield
    finally:
        _source.reset(token)
