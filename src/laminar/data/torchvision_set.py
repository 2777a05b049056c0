"""TorchvisionSet: the image sets that torchvision knows, with their official test sets."""

import torch
from torch import Tensor

from laminar.data.root import rooted
from laminar.data.source import Source, Split, Splits
from laminar.refused import Refused

IDX = "raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte"

# name in torchvision -> classes, how it asks for a split, its files below the root
SETS = {
    "MNIST": (10, {"train": True}, {"train": False}, f"MNIST/{IDX}"),
    "FashionMNIST": (10, {"train": True}, {"train": False}, f"FashionMNIST/{IDX}"),
    "KMNIST": (10, {"train": True}, {"train": False}, f"KMNIST/{IDX}"),
    "CIFAR10": (10, {"train": True}, {"train": False}, "cifar-10-batches-py/"),
    "CIFAR100": (100, {"train": True}, {"train": False}, "cifar-100-python/"),
    "SVHN": (10, {"split": "train"}, {"split": "test"}, "train_32x32.mat and test_32x32.mat"),
}


class TorchvisionSet(Source):
    """One of ``SETS``, uint8 ``(N, C, 32, 32)`` or ``(N, 1, 28, 28)`` with labels.

    Args:
        dataset: its name in ``torchvision.datasets``.
        root: the folder that torchvision reads from and downloads to, see ``rooted``.
        download: fetches what is not there.
    """

    def __init__(self, *, dataset: str, root: str | None = None, download: bool = True, **serving):
        super().__init__(**serving)
        if dataset not in SETS:
            raise Refused(f"data.dataset={dataset} is none of {', '.join(SETS)}: take one of these")
        self.dataset, self.root, self.download = dataset, rooted(root), download
        self.classes, self.train_split, self.test_split, self.files = SETS[dataset]

    @property
    def name(self) -> str:
        return self.dataset

    def read(self) -> Splits:
        return Splits(self._split(self.train_split), None, self._split(self.test_split))

    def _split(self, split: dict) -> Split:
        rows = self._open(split)
        labels = rows.labels if hasattr(rows, "labels") else rows.targets
        return Split.whole(channels_first(torch.as_tensor(rows.data)), torch.as_tensor(labels))

    def _open(self, split: dict):
        from torchvision import datasets

        for download in (False, True)[: 1 + self.download]:
            try:
                return getattr(datasets, self.dataset)(self.root, download=download, **split)
            except Exception as error:  # torchvision raises anything from AssertionError to URLError here
                reason = " ".join(str(error).split()) or type(error).__name__
        raise Refused(
            f"{self.dataset} cannot be read from data.root={self.root}{' nor downloaded' * self.download} ({reason}): "
            f"put {self.files} there (LAMINAR_DATA names the folder too), replacing a damaged file if they are there"
        )


def channels_first(images: Tensor) -> Tensor:
    """torchvision's ``(N, H, W)``, ``(N, H, W, 3)`` or ``(N, 3, H, W)`` -> ``(N, C, H, W)``."""
    if images.dim() == 3:
        return images[:, None]
    return images if images.shape[1] == 3 else images.permute(0, 3, 1, 2).contiguous()
