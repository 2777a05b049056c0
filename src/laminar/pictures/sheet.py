"""Sheets: rows of small images, with labels and a title."""

from collections.abc import Sequence
from math import ceil
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from laminar.config.whole import whole

PAPER, INK, FAINT = (255, 255, 255), (28, 32, 38), (120, 126, 134)
CELL, WIDEST = 56, 240  # pixels up to which small images are enlarged: their height, and their width
MARGIN = 14


def pixels(images: Tensor, levels: int) -> np.ndarray:
    """Stored integers ``(N, C, H, W)`` -> RGB ``(N, H, W, 3)``, uint8: level 0 black, the last one white."""
    values = images.detach().cpu().numpy().astype(np.float64) * (255 / (levels - 1))
    values = np.moveaxis(values.round().clip(0, 255).astype(np.uint8), 1, -1)
    return values if values.shape[-1] == 3 else values[..., :1].repeat(3, -1)


def sheet(rows: Sequence[np.ndarray], title: str = "", labels: Sequence[str] = (), gap: int = 2) -> Image.Image:
    """One row of images ``(n, H, W, 3)`` below another. Enlarged by whole pixels, so that every stored pixel is a square."""
    height, width = rows[0].shape[1:3]
    scale = max(1, min(CELL // height, WIDEST // width))
    height, width = height * scale, width * scale
    body, columns = font(13), max(len(row) for row in rows)
    gutter = int(max((body.getlength(label) for label in labels), default=-10)) + 10
    top = 30 if title else 0
    inside = gutter + columns * (width + gap) - gap
    out = Image.new(
        "RGB",
        (2 * MARGIN + max(inside, int(font(15).getlength(title))), 2 * MARGIN + top + len(rows) * (height + gap) - gap),
        PAPER,
    )
    draw = ImageDraw.Draw(out)
    draw.text((MARGIN, MARGIN - 2), title, INK, font(15))
    for i, row in enumerate(rows):
        y = MARGIN + top + i * (height + gap)
        if labels:
            draw.text((MARGIN + gutter - 10, y + height // 2), labels[i], FAINT, body, anchor="rm")
        for j, image in enumerate(row):
            cell = Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST)
            out.paste(cell, (MARGIN + gutter + j * (width + gap), y))
    return out


def grid(images: np.ndarray, title: str = "", columns: int | None = None) -> Image.Image:
    """Images ``(n, H, W, 3)`` in a grid that is about square."""
    columns = columns or ceil(len(images) ** 0.5)
    return sheet([images[i : i + columns] for i in range(0, len(images), columns)], title)


def save(picture: Image.Image, path: str | Path) -> Path:
    """Writes a PNG, with the folders that it needs."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as file:
        picture.save(file, path.suffix[1:])
    return path


def font(size: int) -> ImageFont.FreeTypeFont:
    """matplotlib's own sans serif, so that sheets and figures look alike."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)
