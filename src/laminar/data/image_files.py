"""Image files: which are read, and as what.

Pixels have 8 bits a channel. Deeper images are refused: Pillow would clip them or drop bits, and the scale is nobody's guess.
Palettes are looked up; black and white is 0 and 255; CMYK and the like become RGB by Pillow's formulas; what is transparent is
laid over white; an image is turned as its EXIF orientation says; of an animation the first frame counts.
"""

import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from laminar.refused import Refused

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}


def files_below(folder: Path) -> list[Path]:
    """All that is called an image at any depth, in order; folders are walked into, whatever they are called."""
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and not file.is_dir())


def read_images(files: Iterable[Path], mode: str, prepare: Callable[[Any], Tensor]) -> Tensor:
    """``prepare(image)`` of every file, stacked. Files are decoded in threads."""
    with ThreadPoolExecutor() as pool:
        return torch.stack(list(pool.map(lambda file: read_image(file, mode, prepare), files)))


def read_image(file: Path, mode: str, prepare: Callable[[Any], Any]) -> Any:
    """``prepare`` of the file's Pillow image, in mode ``RGB`` or ``L``; a refusal begins with the file's name."""
    from PIL import Image, ImageOps

    if file.exists() and not file.is_file():  # opening a pipe would wait for ever
        raise Refused(f"{file} is a folder, a pipe or a device, and no image: remove it")
    try:
        with Image.open(file) as image:
            if deep(image):
                raise Refused(f"{file} has more than 8 bits a channel: write it with 8, scaled as it should be seen")
            image = ImageOps.exif_transpose(image)
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return prepare(image.convert(mode))
    except Refused:
        raise
    except Exception as error:  # a damaged file raises anything, and one that is a bomb Pillow's own error
        raise Refused(f"{file} cannot be read as an image ({error}): repair or remove it") from error


def deep(image: Any) -> bool:
    """Whether an image has more than 8 bits a channel, before it is decoded: its mode need not tell."""
    bits = getattr(image, "tag_v2", {}).get(258, ())  # TIFF's BitsPerSample
    greys = [tile.args[1] for tile in image.tile if tile.codec_name.startswith("ppm")]  # PPM's largest value
    codes = any(re.search(r";16[BLN]", str(tile.args)) for tile in image.tile)  # as PNG's RGB;16B
    return image.mode[0] in "IF" or codes or max(bits, default=8) > 8 or max(greys, default=255) > 255


def pixels(image: Any) -> Tensor:
    """uint8 ``(C, H, W)`` of a Pillow image in mode RGB or L."""
    array = np.array(image)
    return torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1).contiguous()
