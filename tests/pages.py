"""Configs as the command line composes them, and the flows that they describe."""

from contextlib import nullcontext
from functools import cache
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch.overrides import TorchFunctionMode

from laminar.config.knobs import unread
from laminar.config.pages import CONF, compose
from laminar.config.recipe import build
from laminar.flows.flow import Flow
from laminar.flows.space import Space

DIGITS, MNIST, CIFAR = Space((1, 8, 8), levels=17), Space((1, 28, 28), levels=256), Space((3, 32, 32), levels=256)
IMAGENET64, CELEBA_HQ = Space((3, 64, 64), levels=256), Space((3, 256, 256), levels=32)
PLANE = Space((2,))


def members(group: str) -> list[str]:
    return sorted(page.stem for page in (CONF / group).glob("*.yaml"))


@cache
def _composed(words: tuple[str, ...]) -> DictConfig:
    return compose("train", words)


def composed(*words: str) -> DictConfig:
    """The config of ``laminar-train *words``, refused like there if a knob in it does nothing."""
    config = _composed(words)
    idle = unread(OmegaConf.to_container(config), words)
    return OmegaConf.masked_copy(config, [key for key in config if key not in idle])


class Undrawn(TorchFunctionMode):
    """Inside, no tensor is filled by chance: on the meta device torch would work out by Python what nobody sees."""

    DRAWS = ("normal_", "uniform_", "trunc_normal_", "kaiming_uniform_", "xavier_uniform_")

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        drawn = function.__name__ in self.DRAWS
        return (args[0] if args else kwargs["tensor"]) if drawn else function(*args, **kwargs)


def flow(space: Space, *words: str, device: str = "cpu") -> Flow:
    """The flow of ``laminar-train *words`` for a space; on the meta device it costs no memory, and little time."""
    recipe = build(composed(*words).flow, "flow")
    with Undrawn() if device == "meta" else nullcontext(), torch.device(device):
        return recipe(space)


def parameters(space: Space, *words: str) -> int:
    return sum(parameter.numel() for parameter in flow(space, *words, device="meta").parameters())
