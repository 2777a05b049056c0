"""Sheets: rows of small images, with labels and a title."""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from laminar.config.whole import whole
from laminar.pictures.figure import SUBJECT

PAPER, INK, FAINT, MARK = (255, 255, 255), (28, 32, 38), (120, 126, 134), (217, 98, 43)
CELL, WIDEST = 56, 240  # pixels up to which small images are enlarged: their height, and their width
MARGIN = 14


def pixels(images: Tensor, levels: int) -> np.ndarray:
    """Stored integers ``(N, C, H, W)`` -> RGB ``(N, H, W, 3)``, uint8: level 0 black, the last one white."""
    values = images.detach().cpu().numpy().astype(np.float64) * (255 / (levels - 1))
    values = np.moveaxis(values.round().clip(0, 255).astype(np.uint8), 1, -1)
    return values if values.shape[-1] == 3 else values[..., :1].repeat(3, -1)


def sheet(
    rows: Sequence[np.ndarray],
    title: str = "",
    labels: Sequence[str] = (),
    gap: int = 2,
    marked: Mapping[int, str] | None = None,
) -> Image.Image:
    """One row of images ``(n, H, W, 3)`` below another. Enlarged by whole pixels, so that every stored pixel is a square.

    Args:
        labels: of the rows.
        marked: columns in a frame, and what is written above each of them.
    """
    height, width = rows[0].shape[1:3]
    scale = max(1, min(CELL // height, WIDEST // width))
    height, width = height * scale, width * scale
    body, columns = font(13), max(len(row) for row in rows)
    gutter = int(max((body.getlength(label) for label in labels), default=-10)) + 10
    heads = [(title, font(15), INK)] * bool(title) + [(SUBJECT.get(), font(11), FAINT)] * bool(SUBJECT.get())
    top = sum(text.size + 6 for _, text, _ in heads) + 4 * bool(heads) + 20 * bool(marked)
    inside = gutter + columns * (width + gap) - gap
    widest = max([inside, *(int(text.getlength(line)) for line, text, _ in heads)])
    out = Image.new("RGB", (2 * MARGIN + widest, 2 * MARGIN + top + len(rows) * (height + gap) - gap), PAPER)
    draw, y = ImageDraw.Draw(out), MARGIN - 2
    for line, text, ink in heads:
        draw.text((MARGIN, y), line, ink, text)
        y += text.size + 6
    for i, row in enumerate(rows):
        y = MARGIN + top + i * (height + gap)
        if labels:
            draw.text((MARGIN + gutter - 10, y + height // 2), labels[i], FAINT, body, anchor="rm")
        for j, image in enumerate(row):
            cell = Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST)
            out.paste(cell, (MARGIN + gutter + j * (width + gap), y))
    for column, name in (marked or {}).items():
        x, y = MARGIN + gutter + column * (width + gap), MARGIN + top
        draw.rectangle((x - gap, y - gap, x + width + gap - 1, y + len(rows) * (height + gap) - 1), outline=MARK, width=gap)
        draw.text((x, y - 5), name, MARK, font(12), anchor="ls")
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
