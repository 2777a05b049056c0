"""Jobs: a command's config judged as it will be run, or as each job of a sweep will."""

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from laminar.config.allow import packages
from laminar.config.judge import judge
from laminar.config.knobs import resolved
from laminar.config.machine import refuse_other_machine
from laminar.config.schema import SCHEMA


def judge_job(config: DictConfig, command: str, words: Sequence[str]) -> None:
    """Refuses the config of one run, as it would be run."""
    own = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    plain = resolved(own, words) if command == "train" else OmegaConf.to_container(own, resolve=True)
    judge(plain, command, packages(words))
    if command == "train":
        refuse_other_machine(plain["trainer"], plain["data"].get("batch_size", 1))


def judge_sweep(config: DictConfig, command: str, parsed: Sequence[Override]) -> None:
    """Refuses what is wrong in each job of a sweep: the words that all share, and each value of those that differ."""
    allow = packages([word.input_line for word in parsed if not word.is_sweep_override()])
    swept = {word.key_or_group: values(word) for word in parsed if word.is_sweep_override()}
    roots = {key.partition(".")[0] for key in SCHEMA[command]} | {"trainer", "optimizer", "scheduler", "data"}
    for root in roots & config.keys():
        node = "???" if OmegaConf.is_missing(config, root) else config[root]
        if root in swept and OmegaConf.is_config(node):
            continue  # a group, each of whose members has options of its own
        own = {key: values for key, values in swept.items() if key.partition(".")[0] == root}
        first = {key: values[0] for key, values in own.items() if values}
        for key, value in [("", None), *((key, value) for key, values in own.items() for value in values[1:])]:
            job = OmegaConf.create({root: OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node})
            for name, choice in (first | ({key: value} if key else {})).items():
                OmegaConf.update(job, name, choice, force_add=True)
            judge(OmegaConf.to_container(job), command, allow)


def values(word: Override) -> list[Any]:
    """What a swept word goes through, where that is a list."""
    return [Override._convert_value(value) for value in word.sweep_iterator()] if word.is_discrete_sweep() else []
