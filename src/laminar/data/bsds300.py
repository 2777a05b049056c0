"""BSDS300: 8x8 patches of natural images, the benchmark of RNADE (Uria, Murray, Larochelle 2013) and MAF."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from laminar.data.arrays import read_arrays
from laminar.data.memory import room_for
from laminar.data.root import rooted
from laminar.data.source import Source, Split, Splits
from laminar.flows.noise import mix
from laminar.refused import Refused

SIDE = 8
PATCHES, HELD = 0xB5D5, 0x4E1D


class BSDS300(Source):
    """63 values of 8x8 grey patches, float32 ``(N, 63)``, by the benchmark's protocol (Papamakarios et al. 2017).

    A patch has uniform noise added once, is divided by 256, has its mean taken off and its last pixel (minus the sum of the
    others) dropped. Training patches come from 180 of the 200 training images, validation patches from the other 20, test
    patches from the 100 test images, each from a place drawn evenly over all places; the same ones whatever the run's seed.
    The benchmark's own patches are others of the same images. Patches of one image are not independent: ``group`` is the
    image, and standard errors are those of images.

    Args:
        root: holds ``bsds300/train.npz`` and ``bsds300/test.npz``: grey images, uint8, under ``landscape`` and ``portrait``.
        train_size, val_size, test_size: patches.
        draw: another number, other patches.
        cache: a folder that keeps the patches (330 MB), for file systems where reading beats cutting; None cuts them anew.
    """

    levels = None
    base = "benchmark's units: grey values / 256 less the patch's mean, without the last pixel"
    columns = tuple(f"pixel {row},{column}" for row in range(SIDE) for column in range(SIDE))[:-1]

    def __init__(
        self,
        *,
        root: str | None = None,
        train_size: int = 1_000_000,
        val_size: int = 50_000,
        test_size: int = 250_000,
        draw: int = 0,
        cache: str | None = None,
        **serving,
    ):
        super().__init__(**serving)
        self.folder, self.sizes, self.draw = Path(rooted(root)) / "bsds300", (train_size, val_size, test_size), draw
        self.cache = cache and Path(cache)
        if min(self.sizes) < 2:
            raise Refused(f"data.train_size, val_size and test_size are {self.sizes}: take at least 2 patches each")
        room_for(4 * SIDE**2 * sum(self.sizes), f"{sum(self.sizes):,} patches", "take smaller data.train_size and others")

    def read(self) -> Splits:
        kept = self.cache and self.cache / f"bsds300-{'-'.join(map(str, (*self.sizes, self.draw)))}.npz"
        if kept and kept.exists():
            with np.load(kept) as arrays:
                parts = [[arrays[f"{name}_{part}"] for part in ("values", "image")] for name in Splits._fields]
        else:
            parts = self.cut()
            if kept:
                self.cache.mkdir(parents=True, exist_ok=True)
                names = [f"{name}_{part}" for name in Splits._fields for part in ("values", "image")]
                whole = kept.with_name(f".{kept.name}")
                np.savez(whole, **dict(zip(names, [array for part in parts for array in part], strict=True)))
                whole.replace(kept)
        return Splits(*(replace(Split.whole(torch.from_numpy(x)), group=torch.from_numpy(image)) for x, image in parts))

    def cut(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Values ``(N, 63)`` and numbers of images ``(N,)`` of the three splits; test images are numbered behind the others."""
        train, test = (images_of(self.folder / f"{name}.npz") for name in ("train", "test"))
        order = np.random.default_rng(int(mix(HELD, self.draw))).permutation(len(train))
        held = len(train) // 10
        numbers = [np.sort(order[held:]), np.sort(order[:held]), len(train) + np.arange(len(test))]
        images = [*train, *test]
        rngs = [np.random.default_rng(int(mix(PATCHES, self.draw, place))) for place in range(3)]
        return [patches(images, which, *rest) for which, *rest in zip(numbers, self.sizes, rngs, strict=True)]


def patches(
    images: list[np.ndarray], numbers: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Patches of some of the images, in random order, from places drawn evenly and with replacement."""
    places = np.array([(images[n].shape[0] - SIDE + 1) * (images[n].shape[1] - SIDE + 1) for n in numbers])
    ends = places.cumsum()
    drawn = rng.integers(ends[-1], size=count)
    owner = np.searchsorted(ends, drawn, side="right")
    values = np.empty((count, SIDE * SIDE - 1), dtype=np.float32)
    for place, number in enumerate(numbers):
        rows = np.flatnonzero(owner == place)
        windows = np.lib.stride_tricks.sliding_window_view(images[number], (SIDE, SIDE))
        row, column = np.divmod(drawn[rows] - (ends[place] - places[place]), windows.shape[1])
        grey = windows[row, column].reshape(len(rows), SIDE * SIDE)
        x = (grey + rng.random(grey.shape)) / 256
        values[rows] = (x - x.mean(1, keepdims=True))[:, :-1]
    return values, numbers[owner]


def images_of(file: Path) -> list[np.ndarray]:
    try:
        arrays = read_arrays(file, ("landscape", "portrait"))
        images = [*arrays["landscape"], *arrays["portrait"]]
    except Refused:
        raise
    except FileNotFoundError:
        raise Refused(
            f"{file} does not exist: put the grey images of BSDS300 there, uint8 (N, 321, 481) under landscape and "
            "(N, 481, 321) under portrait, from https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/bsds/"
        ) from None
    except Exception as error:  # zip, pickle and key errors alike
        raise Refused(f"{file} cannot be read ({error}): replace it") from error
    if not images or images[0].dtype != np.uint8 or min(images[0].shape) < SIDE:
        raise Refused(f"{file} holds no grey images, uint8 of at least {SIDE}x{SIDE} pixels: replace it")
    return images
