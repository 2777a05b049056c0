"""CIFAR-10 (Krizhevsky 2009): torchvision's files, or a folder of lossless WebP sheets at half their size.

The sheets are ``cifar10/train-00.npz`` ... and ``cifar10/test-00.npz``. Each file holds ``webp`` (uint8, the sheets one
after another), ``offsets`` (int64, sheet k is ``webp[offsets[k]:offsets[k+1]]``) and ``labels`` (uint8). A sheet is
320x320 RGB: 10 rows of 10 images, read row by row.
"""

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from laminar.data.arrays import read_arrays
from laminar.data.source import Split, Splits
from laminar.data.torchvision_set import TorchvisionSet
from laminar.refused import Refused


class CIFAR10(TorchvisionSet):
    """60,000 colour images, uint8 ``(N, 3, 32, 32)``, 10 classes; the official 10,000 are the test set."""

    def __init__(self, **options):
        super().__init__(dataset="CIFAR10", **options)

    def read(self) -> Splits:
        folder = Path(self.root) / "cifar10"
        if not (folder / "train-00.npz").exists():
            return super().read()
        return Splits(self._sheets(folder, "train"), None, self._sheets(folder, "test"))

    def _sheets(self, folder: Path, split: str) -> Split:
        files = sorted(folder.glob(f"{split}-*.npz"))
        if not files:
            raise Refused(f"data.root={self.root} has no {split} sheets: put cifar10/{split}-00.npz ... there")
        images, labels = zip(*(read_sheets(file) for file in files), strict=True)
        return Split.whole(torch.from_numpy(np.concatenate(images)), torch.from_numpy(np.concatenate(labels)))


def read_sheets(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images ``(N, 3, 32, 32)`` and labels ``(N,)`` of one file of sheets."""
    from PIL import Image

    def decode(sheet: np.ndarray) -> np.ndarray:
        tiles = np.asarray(Image.open(BytesIO(sheet.tobytes())).convert("RGB")).reshape(10, 32, 10, 32, 3)
        return tiles.transpose(0, 2, 4, 1, 3).reshape(100, 3, 32, 32)

    try:
        shard = read_arrays(file, ("webp", "offsets", "labels"))
        webp, offsets, labels = shard["webp"], shard["offsets"], shard["labels"]
        with ThreadPoolExecutor() as pool:
            images = np.concatenate(list(pool.map(decode, np.split(webp, offsets[1:-1]))))
    except Refused:
        raise
    except Exception as error:  # a damaged file shows itself in the zip, the array or the picture
        raise Refused(f"{file} is damaged ({error}): replace it, or remove its folder to use torchvision's") from error
    if len(images) != len(labels):
        raise Refused(f"{file} holds {len(images)} images and {len(labels)} labels: replace it")
    return images, labels
