"""Sheets of what an image flow draws: samples, temperatures, classes, levels."""

from collections.abc import Sequence

from PIL import Image

from laminar.flows import noise
from laminar.flows.compose.multiscale import Multiscale
from laminar.flows.draw import classes_of, draw, of_class, some_context
from laminar.flows.flow import Flow
from laminar.flows.space import Context, rows_of
from laminar.pictures.sheet import grid, pixels, sheet


def samples(
    flow: Flow, n: int = 64, temperature: float = 1.0, seed: int = 0, title: str = "", known: Context = None
) -> Image.Image:
    """n samples in a grid, of ``some_context``."""
    drawn = draw(flow, n, some_context(flow, n, known), temperature, seed)
    return grid(pixels(drawn, flow.space.levels), title)


def temperatures(
    flow: Flow, values: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0), n: int = 10, seed: int = 0, known: Context = None
) -> Image.Image:
    """One row for each temperature; a column has the same noise, scaled."""
    context = some_context(flow, n, known)
    rows = [pixels(draw(flow, n, context, value, seed), flow.space.levels) for value in values]
    return sheet(rows, "Samples by temperature", [f"{value:g}" for value in values])


def by_class(flow: Flow, n: int = 10, temperature: float = 1.0, seed: int = 0) -> Image.Image:
    """One row for each class of a conditional flow; a column has the same noise."""
    rows = [
        pixels(draw(flow, n, of_class(label, n), temperature, seed), flow.space.levels) for label in range(classes_of(flow))
    ]
    return sheet(rows, "Samples by class", [str(label) for label in range(len(rows))])


def multiscale_of(flow: Flow) -> Multiscale | None:
    """The part that lets noise go level by level, if there is one with several levels."""
    found = [part for part in flow.transform.parts if isinstance(part, Multiscale) and len(part.slices) > 1]
    return found[0] if found else None


def by_level(flow: Flow, n: int = 10, temperature: float = 1.0, seed: int = 0, known: Context = None) -> Image.Image:
    """What each level of a multiscale flow decides: one sample, redrawn with fresh noise for one level at a time.

    The first column is the sample itself; in the row of level l only the noise that level l let go is new.
    """
    slices = multiscale_of(flow).slices
    with noise.keyed(n, seed):
        fresh = flow.prior.sample(n, temperature)
        rows, context = [], rows_of(some_context(flow, 1, known), [0] * n, flow.device)
        for part in slices:
            z = fresh[:1].repeat(n, 1)
            z[:, part] = fresh[:, part]
            rows.append(pixels(flow.decode(z, context), flow.space.levels))
    names = [f"level {i + 1}: {part.stop - part.start} values" for i, part in enumerate(slices)]
    return sheet(rows, "One sample, with the noise of one level redrawn", names, marked={0: "the sample"})
