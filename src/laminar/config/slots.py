"""Slots: the places of a config that describe code, and the modules that each may order from.

A slot holds what the pages of ``conf/`` order there and no more. No class that fetches by name or that writes where it is
told is in any of these modules.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from laminar.refused import Refused, shown

_ROOMS = (
    *("compose", "context", "coupling", "dequantization", "layer", "mask", "mix", "net", "norm"),
    *("observation", "order", "preprocessing", "prior", "reshape", "solver", "trace"),
)
_SETS = (
    *("bsds300", "celeba", "cifar10", "digits", "image_folder", "line", "nothing", "npz"),
    *("picture", "simulator", "table", "torchvision_set", "toys", "uci"),
)

# A module by its name, or with a dot behind it all below a package. First Laminar's own, then others': what these offer in one
# place and define in another has both.
_OURS = {
    "flow": (*(f"flows.{room}." for room in _ROOMS), "flows.flow"),
    "data": tuple(f"data.{name}" for name in _SETS),
    "objective": ("training.objective.", "training.path.", "training.target."),
    "optimizer": (),
    "scheduler": ("training.scheduler",),
    "trainer": ("training.ddp", "training.profiler"),
    "callbacks": ("training.callbacks.",),
    "logger": ("training.logger.",),
    "target": (),  # a density of the user's own
}
_OTHERS = {
    "flow": ("torch.nn", "torch.nn.modules.activation"),
    "optimizer": ("torch.optim", "torch.optim.adam", "torch.optim.adamw", "torch.optim.adamax", "torch.optim.sgd"),
    "trainer": ("pytorch_lightning", "pytorch_lightning.trainer.trainer"),
}
SLOTS = {slot: (*(f"laminar.{name}" for name in names), *_OTHERS.get(slot, ())) for slot, names in _OURS.items()}


class Slot(NamedTuple):
    """What a place may order: of Laminar's modules, and of the packages that the command line trusts."""

    name: str
    packages: Sequence[str]

    def holds(self, module: str) -> bool:
        return self.trusts(module) or any(
            module.startswith(name) if name.endswith(".") else module == name for name in SLOTS[self.name]
        )

    def trusts(self, module: str) -> bool:
        """Whether it is of a package that was named by ``allow=``."""
        return any(module == package or module.startswith(f"{package}.") for package in self.packages)

    def outside(self, target: Any) -> Refused:
        """The sentence for what it does not hold."""
        return Refused(
            f"_target_ {shown(target)} is outside the packages that {self.name} may be built from: if you trust it, "
            "add its package by allow=[its_package]"
        )
