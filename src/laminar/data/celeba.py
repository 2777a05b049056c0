"""CelebA (Liu et al. 2015), cropped and scaled as in RealNVP (Dinh et al. 2017)."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from laminar.data.image_files import pixels, read_images
from laminar.data.root import rooted
from laminar.data.source import Source, Split, Splits
from laminar.refused import Refused


class CelebA(Source):
    """202,599 faces, uint8 ``(N, 3, size, size)``, without labels; the official training, validation and test splits.

    Rows 40 to 188 and columns 15 to 163 are kept and brought to ``size`` by bilinear interpolation without antialiasing,
    as RealNVP's code does (a smoother filter would lower the bits/dim).

    Args:
        root: holds ``celeba/img_align_celeba/*.jpg`` and ``celeba/list_eval_partition.txt``.
        download: asks torchvision to fetch them where they are missing.
        size: side in pixels.
    """

    def __init__(self, *, root: str | None = None, download: bool = True, size: int = 64, **serving):
        super().__init__(**serving)
        if size < 1:
            raise Refused(f"data.size={size} leaves no pixel: take at least 1")
        self.root, self.download, self.size = rooted(root), download, size
        self.folder = Path(self.root) / "celeba"

    def read(self) -> Splits:
        partition = self.folder / "list_eval_partition.txt"
        if not partition.is_file() or not (self.folder / "img_align_celeba").is_dir():
            self._fetch()
        rows = [line.split() for line in partition.read_text().splitlines() if line.strip()]
        return Splits(*(self._rows([name for name, part in rows if part == split]) for split in "012"))

    def _rows(self, names: list[str]) -> Split:
        if not names:
            raise Refused(f"{self.folder / 'list_eval_partition.txt'} lacks a split: it needs rows marked 0, 1 and 2")
        return Split.whole(read_images([self.folder / "img_align_celeba" / name for name in names], "RGB", self._cropped))

    def _cropped(self, image) -> Tensor:
        face = pixels(image.crop((15, 40, 163, 188)))
        return interpolate(face[None].float(), self.size, mode="bilinear", antialias=False)[0].round().to(torch.uint8)

    def _fetch(self) -> None:
        reason = "and data.download=false"
        if self.download:
            from torchvision.datasets import CelebA as Official

            try:
                return Official(self.root, download=True) and None
            except Exception as error:  # the host answers with pages, quotas or nothing
                reason = f"and cannot be downloaded ({error})"
        raise Refused(
            f"CelebA is not in data.root={self.root} {reason}: "
            "put celeba/img_align_celeba/*.jpg and celeba/list_eval_partition.txt there"
        )
