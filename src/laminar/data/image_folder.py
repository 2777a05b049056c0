"""ImageFolder: any folder of image files."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from laminar.data.source import Source, Split, Splits
from laminar.refused import Refused

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}


class ImageFolder(Source):
    """All images below a folder, uint8 ``(N, channels, size, size)``, without labels.

    Where the folder has sub-folders ``train`` and ``test`` (and ``val``), these are the splits; else the test rows are a
    tenth of all, the same ones whatever the run's seed.

    Args:
        path: the folder.
        size: side in pixels: the shorter side is brought to it (Lanczos, antialiased), the longer one cropped around its
            centre. Images of this size already are taken as they are.
        channels: 3 for RGB, 1 for grey.
    """

    def __init__(self, *, path: str, size: int, channels: int = 3, **serving):
        super().__init__(**serving)
        if channels not in (1, 3):
            raise Refused(f"data.channels={channels} is neither RGB nor grey: take 3 or 1")
        if size < 1:
            raise Refused(f"data.size={size} leaves no pixel: take at least 1")
        self.path, self.size, self.mode = Path(path), size, "RGB" if channels == 3 else "L"

    def read(self) -> Splits:
        if not self.path.is_dir():
            raise Refused(f"data.path={self.path} is not a folder: name the one that holds the images")
        if not all((self.path / split).is_dir() for split in ("train", "test")):
            return Splits(self._rows(self.path), None, None)
        val = self._rows(self.path / "val") if (self.path / "val").is_dir() else None
        return Splits(self._rows(self.path / "train"), val, self._rows(self.path / "test"))

    def _rows(self, folder: Path) -> Split:
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
        if not files:
            raise Refused(f"no image lies below {folder}: data.path needs files such as .png, .jpg or .webp")
        return Split.whole(read_images(files, self._fitted))

    def _fitted(self, image) -> Tensor:
        from PIL import Image, ImageOps

        return pixels(ImageOps.fit(image.convert(self.mode), (self.size, self.size), Image.Resampling.LANCZOS))


def read_images(files: Iterable[Path], prepare: Callable[..., Tensor]) -> Tensor:
    """``prepare(image)`` of every file, stacked. Files are decoded in threads."""
    from PIL import Image

    def read(file: Path) -> Tensor:
        try:
            with Image.open(file) as image:
                return prepare(image)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise Refused(f"{file} cannot be read as an image ({error}): repair or remove it") from error

    with ThreadPoolExecutor() as pool:
        return torch.stack(list(pool.map(read, files)))


def pixels(image) -> Tensor:
    """uint8 ``(C, H, W)`` of a Pillow image in mode RGB or L."""
    array = np.array(image)
    return torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1).contiguous()
