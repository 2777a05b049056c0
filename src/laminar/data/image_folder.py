"""ImageFolder: any folder of image files."""

from pathlib import Path

from torch import Tensor

from laminar.data.image_files import files_below, pixels, read_images
from laminar.data.memory import room_for
from laminar.data.source import Source, Split, Splits
from laminar.refused import Refused


class ImageFolder(Source):
    """All images below a folder, uint8 ``(N, channels, size, size)``, without labels; as what, ``image_files`` says.

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
        files = files_below(folder)
        if not files:
            raise Refused(f"no image lies below {folder}: data.path needs files such as .png, .jpg or .webp")
        size = 2 * len(files) * len(self.mode) * self.size**2  # one by one, and together
        room_for(size, f"{len(files):,} images of data.size={self.size}", "take a smaller data.size")
        return Split.whole(read_images(files, self.mode, self._fitted))

    def _fitted(self, image) -> Tensor:
        from PIL import Image, ImageOps

        return pixels(ImageOps.fit(image, (self.size, self.size), Image.Resampling.LANCZOS))
