"""Sheets of what a variational autoencoder makes of codes: data that have been to their latents and back, and moved latents."""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from laminar.flows import noise
from laminar.flows.compose.chain import links_of
from laminar.flows.flow import Flow
from laminar.flows.layer.latent import Latent
from laminar.flows.layer.variational import Variational
from laminar.flows.space import Context, rows_of
from laminar.pictures.codes import Codes
from laminar.pictures.sheet import pixels, sheet


def told(flow: Flow) -> str:
    """What ``meant`` shows of p(x | z)."""
    return "middle of p(x | z)" if _stop(flow) is None else "E[x | z]"


def coded(flow: Flow) -> bool:
    """Whether a code stands between data and noise, from which no x comes back but as it is told of."""
    return any(isinstance(link, Latent) for link in links_of(flow.transform))


def _stop(flow: Flow) -> Variational | None:
    """The layer whose values are independent given z, if that is how x is made."""
    _, stop, _ = flow.locate(Latent)
    return stop if isinstance(stop, Variational) and stop.local is None else None


@torch.no_grad()
def meant(flow: Flow, z: Tensor, context: Context = None) -> Tensor:
    """What latents z ``(N, L)`` stand for, ``(N, *event)`` on the CPU: E[x | z] where that is known in closed form.

    Where the values of x are drawn one after another, or z level by level, it is the middle of each draw.
    """
    before, stop, _ = flow.locate(Latent)
    z, context = z.to(flow.prior.anchor), flow.context(rows_of(context, slice(None), flow.device))
    if _stop(flow) is not None:
        return before.inverse(stop.mean(z, context), context).cpu()
    with noise.centre():
        return before.inverse(stop.inverse(z, context), context).cpu()


@torch.no_grad()
def encoded(flow: Flow, x: Tensor, context: Context = None) -> Tensor:
    """The middle of q(z | x), ``(N, L)``."""
    before, stop, _ = flow.locate(Latent)
    context = flow.context(rows_of(context, slice(None), flow.device))
    with noise.centre():
        return stop.terms(before(x.to(flow.device), context)[0], context)[0]


@torch.no_grad()
def reconstructions(flow: Flow, x: Tensor, context: Context = None) -> Image.Image:
    """Images above what their codes stand for, and above two draws of p(x | z)."""
    before, stop, _ = flow.locate(Latent)
    z = encoded(flow, x, context)
    rows = [x, meant(flow, z, context)]
    seen = flow.context(rows_of(context, slice(None), flow.device))
    for seed in range(2):
        with noise.keyed(len(x), seed):
            rows.append(before.inverse(stop.inverse(z, seen), seen).cpu())
    labels = ["x", told(flow), "draw of p(x | z)", "another"]
    return sheet([pixels(row, flow.space.levels) for row in rows], "Images, and what comes back of their codes", labels)


def traversals(flow: Flow, x: Tensor, found: Codes, context: Context = None, n: int = 10, steps: int = 11) -> Image.Image:
    """From the code of one image ``(1, *event)``: a row for each of the most active latents, from -3 to 3 deviations.

    The deviations are those of the codes ``found``. A conditional flow keeps the image's own context.
    """
    z, rows, latents = encoded(flow, x, context), [], found.order[:n]
    centre, deviation = (statistic.to(z) for statistic in moments(found))
    shares = torch.linspace(-3, 3, steps).to(z)
    for latent in latents:
        moved = z.repeat(steps, 1)
        moved[:, latent] = centre[latent] + shares * deviation[latent]
        rows.append(pixels(meant(flow, moved, rows_of(context, [0] * steps)), flow.space.levels))
    title = f"{told(flow)}: one code, a latent at a time from -3 to 3 deviations"
    return sheet(rows, title, [f"latent {latent + 1}" for latent in latents])


def interpolations(flow: Flow, left: Tensor, right: Tensor, context: Context = None, steps: int = 8) -> Image.Image:
    """A row from each image of ``left`` to that of ``right``: what the codes between theirs stand for, between the two."""
    start, end = encoded(flow, left, context), encoded(flow, right, context)
    columns = [meant(flow, torch.lerp(start, end, share.item()), context) for share in torch.linspace(0, 1, steps)]
    rows = torch.stack([left, *columns, right], 1)
    title = f"Interpolations of codes: {told(flow)} between images"
    return sheet([pixels(row, flow.space.levels) for row in rows], title, marked={0: "image", steps + 1: "image"})


def moments(found: Codes) -> Sequence[Tensor]:
    """Mean and deviation of each latent over the codes of all data, ``(L,)``."""
    flat = found.draws.flatten(0, 1)
    return flat.mean(0), flat.std(0)
