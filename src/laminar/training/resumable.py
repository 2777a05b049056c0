"""Resumable: whether a checkpoint is one from which this training can go on: all of its state has the form that ours has."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from laminar.config.recipe import cook
from laminar.refused import Refused
from laminar.training.module import FlowModule


def refuse_other_state(checkpoint: dict[str, Any], trainer: pl.Trainer, module: FlowModule, path: str | Path) -> None:
    """Refuses, in one sentence, what Lightning, the optimizer or a callback would stumble over."""
    for part, holds, ours in (
        ("progress", _progress, trainer),
        ("weights", _weights, module),
        ("optimizer's state", _optimizer, module),
        ("callbacks' state", _callbacks, trainer),
    ):
        if not holds(checkpoint, ours):
            raise Refused(
                f"{path} holds no state that this training could go on from: its {part} has another form; "
                "take another checkpoint, or the settings that it was trained with"
            )


def _progress(checkpoint: dict[str, Any], trainer: pl.Trainer) -> bool:
    needed = ("epoch", "global_step", "loops", "callbacks", "optimizer_states", "lr_schedulers", "pytorch-lightning_version")
    if any(name not in checkpoint for name in needed):
        return False
    return like(trainer.fit_loop.state_dict(), checkpoint["loops"].get("fit_loop"), least=0)


def _weights(checkpoint: dict[str, Any], module: FlowModule) -> bool:
    ours = module.state_dict()
    theirs = [checkpoint[name] for name in ("state_dict", "current_model_state") if name in checkpoint]
    if len(theirs) == 2 and not _count(checkpoint.get("averaging_state", {}).get("n_averaged")):
        return False
    return all(like(ours, weights) and len(ours) == len(weights) for weights in theirs)


def _count(value: Any) -> bool:
    return isinstance(value, Tensor) and value.shape == () and value.dtype == torch.int64


def _optimizer(checkpoint: dict[str, Any], module: FlowModule) -> bool:
    """An optimizer of one number, after a step, has what ours keeps of each parameter."""
    parameters = [parameter for parameter in module.flow.parameters() if parameter.requires_grad]
    if not parameters or len(checkpoint["optimizer_states"]) != 1:
        return False
    probe = torch.zeros(1, requires_grad=True)
    probe.grad = torch.zeros(1)
    optimizer = cook(module.optimizer, "optimizer", [probe])
    optimizer.step()
    model, saved = optimizer.state_dict(), checkpoint["optimizer_states"][0]
    if not like({"state": {}, "param_groups": [{}]}, saved):
        return False
    (group,), (ours,) = saved["param_groups"], model["param_groups"]
    if group.get("params") != [*range(len(parameters))] or not like({**ours, "params": []}, group):
        return False
    for place, state in saved["state"].items():
        if place not in group["params"] or not isinstance(state, dict):
            return False
        shape = parameters[place].shape
        needed = {
            name: value.view(()).expand(shape) if value.shape == (1,) else value for name, value in model["state"][0].items()
        }
        if not like(needed, state):
            return False
    schedules = [cook(module.scheduler, "scheduler", optimizer)] if module.scheduler else []
    pairs = zip(schedules, checkpoint["lr_schedulers"], strict=False)
    return all(_reads(schedule, state) and "last_epoch" in state for schedule, state in pairs)


def _callbacks(checkpoint: dict[str, Any], trainer: pl.Trainer) -> bool:
    """Each callback's own reader is tried on a copy of it."""
    for callback in trainer.callbacks:
        kind = type(callback).__qualname__  # with its settings behind it, which some learn late
        state = next((state for key, state in checkpoint["callbacks"].items() if str(key).partition("{")[0] == kind), None)
        if state is None:
            continue
        if not _reads(deepcopy(callback), state):
            return False
    return True


def _reads(reader: Any, state: Any) -> bool:
    """Whether a schedule, or a callback, reads a state without an error, and finds what it would have written itself."""
    ours = reader.state_dict()
    try:
        reader.load_state_dict(deepcopy(state))
    except Exception:  # of any kind: it is not made for what a stranger writes
        return False
    return like({name: value for name, value in ours.items() if name in state}, state)


def like(ours: Any, theirs: Any, least: float | None = None) -> bool:
    """Whether a state has the form of another: at least its entries, each of its kind, tensors of its shape."""
    if ours is None or isinstance(ours, bool):
        return ours is None or theirs is None or isinstance(theirs, bool)
    if isinstance(ours, int | float):
        return type(theirs) in (int, float) and (least is None or theirs >= least)
    if isinstance(ours, Tensor):
        return isinstance(theirs, Tensor) and theirs.shape == ours.shape
    if isinstance(ours, dict):
        return isinstance(theirs, dict) and all(name in theirs and like(ours[name], theirs[name], least) for name in ours)
    if isinstance(ours, list | tuple):
        return isinstance(theirs, list | tuple) and (
            not ours or (len(ours) == len(theirs) and all(like(*pair, least) for pair in zip(ours, theirs, strict=True)))
        )
    return type(theirs) is type(ours)
