"""Recipes: the one door from config to code. A config, or a checkpoint from a stranger, runs nothing else."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from laminar.refused import Refused

ALLOWED = (
    "laminar.",
    "torch.nn.",
    "torch.optim.",
    "torchmetrics.",
    "pytorch_lightning.Trainer",
    "pytorch_lightning.callbacks.",
    "pytorch_lightning.loggers.",
    "pytorch_lightning.strategies.",
    "pytorch_lightning.plugins.",
    "pytorch_lightning.profilers.",
)


def targets(config: Any) -> Iterable[str]:
    """Every ``_target_`` below a config node, in reading order."""
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield config["_target_"]
        config = list(config.values())
    if isinstance(config, Sequence) and not isinstance(config, str):
        for child in config:
            yield from targets(child)


def check_targets(config: Any, allow: Sequence[str] = ()) -> None:
    """Refuses a ``_target_`` outside the allow-list before anything of it is imported.

    ``allow`` holds the names of further packages (the option ``allow=[mypackage]``).
    """
    prefixes = ALLOWED + tuple(f"{package}." for package in allow)
    for target in targets(config):
        inside = isinstance(target, str) and any(
            target == prefix or (prefix.endswith(".") and target.startswith(prefix)) for prefix in prefixes
        )
        if not inside or any(part.startswith("_") for part in target.split(".")):
            raise Refused(
                f"_target_ {target!r} is outside the packages that a config may name "
                "(laminar, torch.nn, torch.optim, torchmetrics, Lightning's callbacks, loggers, strategies and Trainer): "
                "if you trust it, add its package by allow=[its_package]"
            )


def build(config: Any, allow: Sequence[str] = (), **arguments: Any) -> Any:
    """Builds what a config node describes: ``_target_`` with its arguments; ``_partial_: true`` gives the recipe itself."""
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    if plain is None:
        return None
    check_targets(plain, allow)
    try:
        return instantiate(plain, _convert_="all", **arguments)
    except InstantiationException as wrapped:
        if isinstance(wrapped.__cause__, Refused):
            raise wrapped.__cause__ from None
        raise
