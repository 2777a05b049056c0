"""A target that somebody else has written, by its name."""

from torch import Tensor

from laminar.config.recipe import build
from laminar.refused import Refused
from laminar.training.target.target import Target


class Function(Target):
    """A function of your own, log p(x) up to a constant, ``(B, *event) -> (B,)``.

    Args:
        name: ``package.module.function``, of a package that ``allow=`` names.
    """

    def __init__(self, name: str | None = None):
        if name is None:
            raise Refused("target=function needs its name: target.name=mypackage.log_density allow=[mypackage]")
        self.function = build({"_target_": name, "_partial_": True}, "target")

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x)
