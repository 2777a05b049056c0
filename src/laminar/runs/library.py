"""Flows from Python: a trained one by its run, or one that nobody has trained by the pages of the command line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from laminar.config.composer import judged
from laminar.config.knobs import resolved
from laminar.config.recipe import build as made
from laminar.config.recipe import cook
from laminar.data.datamodule import FlowDataModule
from laminar.data.source import Source
from laminar.flows.flow import Flow
from laminar.flows.space import Space
from laminar.refused import Refused
from laminar.runs.open import open_run
from laminar.training.checkpoint import in_precision

STAND_IN = {True: "digits", False: "moons"}  # whose page is read for data that have none: integers or not


def load(run: str | Path, device: str = "cpu", allow: Sequence[str] = ()) -> Flow:
    """The flow of a run folder (its best weights) or of a checkpoint, in evaluation mode.

    Its ``log_prob``, ``bits_per_dim``, ``sample``, ``encode`` and ``decode`` take arrays or tensors, as many rows as there are.

    Args:
        device: ``cpu``, ``cuda``, or ``auto`` for the GPU if there is one.
        allow: further packages that the run's config may name.
    """
    return open_run(str(run), device, allow).flow


def build(
    flow: str | None = None, *words: str, data: str | Space | None = None, allow: Sequence[str] = (), **choices: Any
) -> Flow:
    """An untrained flow by the pages of ``laminar-train``; parts that start from data do so on the first training batch::

        build("glow", data="cifar10", coupling="rational_quadratic", size={"width": 64, "steps": 4})
        build("nsf_ar", data=Space((5,)), net={"width": 128})
        build(experiment="flowpp_cifar10")

    Args:
        flow: a page of ``conf/flow``.
        words: of the command line, as they are written there.
        data: a page of ``conf/data``, which is read for the shape of its rows; or that shape, as a Space.
        choices: group -> member, or -> options by their names.
    """
    given = isinstance(data, Space)
    told = {"flow": flow, "data": STAND_IN[data.discrete] if given else data}
    told = {name: member for name, member in told.items() if member is not None} | choices
    words = [*(word for name, value in told.items() for word in _words(name, value)), *words]
    config = judged("train", words)
    plain = resolved(config, words)
    space = data if given else FlowDataModule(made(plain["data"], "data", allow, Source)).space
    return in_precision(cook(made(plain["flow"], "flow", allow, Flow), "this flow", space), plain)


def _words(name: str, value: Any) -> list[str]:
    """A choice as the command line spells it."""
    if isinstance(value, Mapping):
        return [word for option, inner in value.items() for word in _words(f"{name}.{option}", inner)]
    if isinstance(value, str) and any(sign in value for sign in "'\"\\"):
        raise Refused(f"{name}={value} holds quotes: give it as a word of the command line")
    return [f"{name}={'null' if value is None else str(value).lower() if isinstance(value, bool) else value}"]
