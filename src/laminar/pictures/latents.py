"""Sheets of real images that have been to the noise and back: reconstructions and interpolations."""

import torch
from PIL import Image
from torch import Tensor

from laminar.flows.flow import Flow
from laminar.flows.space import Context, rows_of
from laminar.pictures.sheet import pixels, sheet


@torch.no_grad()
def reconstruct(flow: Flow, x: Tensor, context: Context = None) -> tuple[Tensor, float]:
    """f^-1(f(x)) on the CPU, and the largest |x - f^-1(f(x))| in stored units: 0 for integers that a flow can code."""
    x, context = x.to(flow.device), rows_of(context, slice(None), flow.device)
    back = flow.decode(flow.encode(x, context, mean=True), context, mean=True)
    return back.cpu(), (back.double() - x.double()).abs().max().item()


def reconstructions(flow: Flow, x: Tensor, context: Context = None) -> Image.Image:
    """Images above what comes back of them."""
    back, error = reconstruct(flow, x, context)
    rows = [pixels(x, flow.space.levels), pixels(back, flow.space.levels)]
    error = "exact" if error == 0 else f"off by up to {error:g} of {flow.space.levels - 1}"
    return sheet(rows, f"Images to noise and back: {error}", ["x", "f⁻¹(f(x))"])


@torch.no_grad()
def interpolate(flow: Flow, left: Tensor, right: Tensor, context: Context = None, steps: int = 10) -> Tensor:
    """``(n, steps, *event)`` on the CPU: decoded points of the lines from the noise of left to the noise of right.

    A conditional flow walks each line under one context.
    """
    context = rows_of(context, slice(None), flow.device)
    start, end = (flow.encode(x.to(flow.device), context, mean=True) for x in (left, right))
    columns = [flow.decode(torch.lerp(start, end, share), context, mean=True).cpu() for share in torch.linspace(0, 1, steps)]
    return torch.stack(columns, 1)


def interpolations(flow: Flow, left: Tensor, right: Tensor, context: Context = None, steps: int = 10) -> Image.Image:
    """A row from each image of ``left`` to that of ``right``; both ends are the images themselves."""
    rows = [pixels(row, flow.space.levels) for row in interpolate(flow, left, right, context, steps)]
    return sheet(rows, "Interpolations in the space of the noise", marked={0: "image", steps - 1: "image"})
