"""Picture: a 2-D density drawn from the grey levels of an image."""

from math import log
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from laminar.data.image_files import read_image
from laminar.data.toys import Toy
from laminar.refused import Refused


class Picture(Toy):
    """Points fall on a pixel in proportion to its ink, and evenly within it. The longer side spans [-4, 4].

    Args:
        path: an image file; None draws a face.
        invert: takes light pixels for ink, as for a drawing on black.
    """

    def __init__(self, *, path: str | None = None, invert: bool = False, **serving):
        super().__init__(**serving)
        grey = draw_face() if path is None else read_grey(path)
        ink = grey if invert else 1 - grey
        if ink.sum() == 0:
            raise Refused(f"data.path={path} shows no ink: an evenly {'black' if invert else 'white'} picture has no shape")
        self.mass = ink / ink.sum()
        self.pixel = 8 / max(ink.shape)
        height, width = ink.shape
        self.corner = self.pixel * np.array([-width / 2, height / 2])  # top left, in (x, y)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        row, column = np.divmod(rng.choice(self.mass.size, n, p=self.mass.ravel()), self.mass.shape[1])
        right, down = rng.uniform(size=(2, n))
        return self.corner + self.pixel * np.stack([column + right, -(row + down)], 1)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, ``(B, 2) -> (B,)``; minus infinity where there is no ink."""
        right, down = ((x - torch.from_numpy(self.corner).to(x)) / self.pixel).unbind(1)
        column, row = right.floor().long(), (-down).floor().long()
        height, width = self.mass.shape
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        mass = torch.from_numpy(self.mass).to(x)[row.clamp(0, height - 1), column.clamp(0, width - 1)]
        return torch.where(inside, mass.log() - 2 * log(self.pixel), -torch.inf)


def read_grey(path: str) -> np.ndarray:
    """Grey levels in [0, 1], ``(height, width)``."""
    try:
        return read_image(Path(path), "L", lambda image: np.asarray(image, dtype=np.float64) / 255)
    except Refused as error:
        raise Refused(f"data.path={error}, or name another image, or null for a face") from error


def draw_face(side: int = 128) -> np.ndarray:
    """A face in ink on white, grey levels in [0, 1]."""
    y, x = 1 - (np.mgrid[:side, :side] + 0.5) / (side / 2)
    radius = np.hypot(x, y)
    outline = np.abs(radius - 0.88) < 0.05
    eyes = np.hypot((np.abs(x) - 0.33) / 0.1, (y - 0.28) / 0.16) < 1
    nose = (np.abs(x) < 0.04 + 0.06 * (0.12 - y)) & (np.abs(y) < 0.12)
    smile = (np.abs(np.hypot(x, y - 0.05) - 0.55) < 0.05) & (y < -0.2)
    return 1.0 - (outline | eyes | nose | smile)
