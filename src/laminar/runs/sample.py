"""Sampling: what a trained flow draws, as a picture or as arrays."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from laminar.config.whole import whole
from laminar.flows.draw import classes_of, draw, of_class, some_context
from laminar.flows.flow import Flow
from laminar.flows.space import Context, rows_of
from laminar.pictures import latents, traversals
from laminar.pictures.figure import about, subject
from laminar.pictures.samples import plane
from laminar.pictures.sheet import grid, pixels, save, sheet
from laminar.refused import Refused
from laminar.runs.compiled import compile_flow
from laminar.runs.links import below
from laminar.runs.open import open_data, open_run, split_of
from laminar.runs.page import write_page
from laminar.runs.rows import given_by, write_rows
from laminar.runs.same import compare

MODES = ("sample", "reconstruct", "interpolate")


def start(config: DictConfig) -> None:
    """Draws what the config asks for into a file, and says where it lies."""
    if config.mode not in MODES:
        raise Refused(f"mode={config.mode} is none of {', '.join(MODES)}")
    if config.n < 1:
        raise Refused(f"n={config.n} draws nothing: take 1 or more")
    if config.temperature <= 0:
        raise Refused(f"temperature={config.temperature} leaves no distribution: take a number above 0, 1 for the model")
    if config.mode == "interpolate" and config.steps < 2:
        raise Refused(f"steps={config.steps} has no two ends: take 2 or more")
    flow, trained, folder, known = open_run(config.run, config.device, config.allow)
    if config.inverse is not None:
        flow.decode_by(config.inverse, config.tolerance)
    data, given = open_data(trained, config.data, config.allow), None
    out = place(config, flow, folder, data.source.columns is not None)
    if config.compile:
        compile_flow(flow, flow.device, back=True)
    if config.mode == "sample":
        if config.given is None:
            context = chosen_context(flow, config.n, config.label)
        else:
            given, context = given_by(config.given, data.source, config.n)
        count = config.n if given is None else len(next(iter(context.values())))
        how = {"guidance": config.guidance, "denoise": config.denoise}
        values = draw(flow, count, context, config.temperature, config.seed, **how)
        drawn = {"values": values, "labels": (context or {}).get("label")}
    else:
        split = split_of(data, config.split)
        compare(config.run, known, flow.space, data, config.split)
        drawn = revisit(flow, split, config)
    if out.suffix == ".csv":
        out.parent.mkdir(parents=True, exist_ok=True)
        write_rows(drawn["values"], data.source, out, given)
    else:
        with about(subject(trained)):
            write(flow, drawn, out, config)
        if out.parent == folder / "samples":
            write_page(folder)
    print(out)


def place(config: DictConfig, flow: Flow, folder: Path, table: bool = False) -> Path:
    """Where the file goes; refuses one that exists, or of a kind that cannot be written."""
    if config.out is not None:
        out = Path(config.out)
    else:
        words = [config.mode, f"n{config.n}"]
        if config.mode == "sample":
            words += [f"t{config.temperature:g}", f"seed{config.seed}"]
            words += [f"g{config.guidance:g}"] if config.guidance else []
            words += [] if config.denoise else ["noisy"]
        words += [] if config.label is None else [f"label{config.label}"]
        words += [] if config.given is None else [f"given-{Path(config.given).stem}"]
        rows = ".csv" if table and config.mode == "sample" else ".npz"
        name = "-".join(words) + (".png" if drawable(flow, config.mode) and rows == ".npz" else rows)
        out = below(folder, "samples") / name
    if out.suffix not in (".png", ".npz", ".csv"):
        raise Refused(f"out={out} is neither .png nor .npz, nor .csv for a table")
    if out.suffix == ".csv" and not (table and config.mode == "sample"):
        raise Refused(f"out={out} is for samples of a table, whose columns have names: use a .npz file")
    if out.suffix == ".png" and not drawable(flow, config.mode):
        raise Refused(f"out={out} cannot show events of shape {flow.space.event}: use a .npz file")
    if out.exists() and not config.overwrite:
        raise Refused(f"{out} exists: add overwrite=true, or choose another out=")
    return out


def drawable(flow: Flow, mode: str) -> bool:
    return flow.space.is_image or (flow.space.event == (2,) and mode == "sample")


def chosen_context(flow: Flow, n: int, label: int | None) -> Context:
    """The class asked for, n times; without one all classes in turn; None for an unconditional flow."""
    if label is None:
        return some_context(flow, n)
    classes = classes_of(flow)
    if classes is None:
        raise Refused(f"label={label} was asked of a flow that knows no classes: train one with context=label")
    if not 0 <= label < classes:
        raise Refused(f"label={label} is outside this flow's classes 0 to {classes - 1}")
    return of_class(label, n)


def revisit(flow: Flow, split: Any, config: DictConfig) -> dict[str, Tensor | None]:
    """Reconstructions of, or interpolations between, the first examples of a split (of one class, if asked for)."""
    rows = torch.arange(len(split))
    if config.label is not None:
        chosen_context(flow, 1, config.label)
        rows = rows[split.labels == config.label]
    needed = config.n * (2 if config.mode == "interpolate" else 1)
    if needed > len(rows):
        raise Refused(f"n={config.n} needs {needed} examples, and split={config.split} has {len(rows)}: take fewer")
    split = split.pick(rows[:needed])
    if config.mode == "reconstruct":
        if traversals.coded(flow):
            back = traversals.meant(flow, traversals.encoded(flow, split.values, split.context), split.context)
            off = (back.double() - split.values.double()).abs().mean().item()
            print(f"mean |x - {traversals.told(flow)}| = {off:g}, z the middle of q(z | x)")
            return {"originals": split.values, "values": back, "labels": split.labels}
        if not flow.invertible:
            raise Refused("mode=reconstruct needs a flow that leads back, and this one draws on the way back: use mode=sample")
        back, error = latents.reconstruct(flow, split.values, split.context)
        print(f"max |x - f^-1(f(x))| = {error:g}")
        return {"originals": split.values, "values": back, "labels": split.labels}
    left, right = split.values.chunk(2)
    context = rows_of(split.context, slice(config.n))
    return {"values": latents.interpolate(flow, left, right, context, config.steps), "labels": context.get("label")}


def write(flow: Flow, drawn: dict[str, Tensor | None], out: Path, config: DictConfig) -> None:
    """A picture, or arrays of stored values: images as ``(N, H, W, C)`` under ``images``, vectors under ``values``."""
    out.parent.mkdir(parents=True, exist_ok=True)
    values = drawn["values"]
    if out.suffix == ".npz":
        names = {"values": "images"} if flow.space.is_image else {}
        arrays = {names.get(name, name): _stored(flow, name, part) for name, part in drawn.items() if part is not None}
        with whole(out) as file:
            np.savez_compressed(file, **arrays)
    elif not flow.space.is_image:
        plane({"samples": values}, out)
    elif config.mode == "sample":
        save(grid(pixels(values, flow.space.levels), "Samples"), out)
    elif config.mode == "reconstruct":
        per_row, back = 16, traversals.told(flow) if traversals.coded(flow) else "f⁻¹(f(x))"
        pairs = zip(drawn["originals"].split(per_row), values.split(per_row), strict=True)
        rows = [pixels(part, flow.space.levels) for pair in pairs for part in pair]
        save(sheet(rows, "Reconstructions", ["x", back] * (len(rows) // 2)), out)
    else:
        rows = [pixels(row, flow.space.levels) for row in values]
        save(sheet(rows, "Interpolations", marked={0: "image", config.steps - 1: "image"}), out)


def _stored(flow: Flow, name: str, part: Tensor) -> np.ndarray:
    array = part.numpy()
    return np.moveaxis(array, -3, -1) if flow.space.is_image and name != "labels" else array
