"""Npz: your own images, as arrays in NumPy's file format. Downsampled ImageNet enters this way."""

from pathlib import Path

import numpy as np
import torch

from laminar.data.arrays import read_arrays
from laminar.data.source import Source, Split, Splits
from laminar.refused import Refused

CLASSES = 2**16  # at most: a class is an entry of tables and one-hot vectors, whether it has rows or not


class Npz(Source):
    """``images``, uint8 ``(N, H, W, C)`` or ``(N, H, W)``, and optionally ``labels``, integers 0 to C-1, ``(N,)``.

    Args:
        path: file with the training rows.
        test_path: file with the test rows; None takes a tenth of the training file, the same rows whatever the seed.
        val_path: file with the validation rows; None cuts ``validation`` from the training rows.
    """

    def __init__(self, *, path: str, test_path: str | None = None, val_path: str | None = None, **serving):
        super().__init__(**serving)
        self.paths = path, val_path, test_path

    def read(self) -> Splits:
        splits = Splits(*(path and read_npz(Path(path)) for path in self.paths))
        train, *others = (split for split in splits if split is not None)
        for split in others:
            if split.values.shape[1:] != train.values.shape[1:] or (split.labels is None) != (train.labels is None):
                raise Refused(f"the files of {self.paths} differ in image shape or in having labels: make them alike")
        if train.labels is not None:
            self.classes = 1 + max(int(split.labels.max()) for split in (train, *others))
        return splits


def read_npz(file: Path) -> Split:
    expected = "it needs a key 'images': uint8 of shape (N, H, W, C) with 1 to 4 channels, or (N, H, W)"
    try:
        arrays = read_arrays(file, ("images", "labels"))
        images, labels = arrays["images"], arrays.get("labels")
    except Refused:
        raise
    except FileNotFoundError:
        raise Refused(f"{file} does not exist: data.path names an .npz file, and {expected}") from None
    except KeyError:
        raise Refused(f"{file} holds no key 'images': {expected}") from None
    except Exception as error:  # zip, pickle and header errors alike
        raise Refused(f"{file} cannot be read as an .npz file ({error}): {expected}") from error
    pixels = images[..., None] if images.ndim == 3 else images
    if images.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] > 4 or images.size == 0:
        raise Refused(f"'images' in {file} is {images.dtype} of shape {images.shape}: {expected}")
    values = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    if labels is None:
        return Split.whole(values)
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise Refused(
            f"'labels' in {file} is {labels.dtype} of shape {labels.shape}: it needs class numbers from 0 up, "
            f"integers of shape ({len(images)},)"
        )
    if labels.min() < 0 or labels.max() >= CLASSES:
        raise Refused(
            f"'labels' in {file} run from {labels.min()} to {labels.max()}: it needs class numbers from 0 up, below "
            f"{CLASSES:,}; np.unique(labels, return_inverse=True)[1] numbers them anew"
        )
    return Split.whole(values, torch.from_numpy(labels.astype(np.int64)))
