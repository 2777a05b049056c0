"""Knobs: which of a config's keys mean something, to the command or to the flow that it describes."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from laminar.config.pages import CONF, page
from laminar.refused import Refused

OWN = {
    *("task_name", "name", "tags", "seed", "train", "test", "ckpt_path", "resume", "optimized_metric", "published"),
    *("num_samples", "compile", "memory", "flow", "data", "objective", "optimizer", "scheduler", "trainer", "callbacks"),
    *("logger", "allow", "size"),
}

_WORD = re.compile(r"[\w.]+")


def unread(config: dict[str, Any], words: Sequence[str]) -> list[str]:
    """The top-level keys of an unresolved config that this flow does not read: defaults that concern other flows.

    Raises:
        Refused: where somebody chose one, by a word of the command line or in an experiment's page, or made it up: it would
            silently do nothing. Likewise for a size word.
    """
    seen: set[str] = set()
    read = {word for root in ("flow", "objective") for word in _read(config, root, seen)}
    keys = {word.split(".")[0] for word in read} | {"flow"}
    chosen = list(_chosen(words))
    idle = [key for key in config if key not in OWN | keys]
    for key in idle:
        if key in chosen or not ((CONF / key).is_dir() or key in ("step", "parts")):
            raise Refused(
                f"{key} would change nothing: this flow reads {', '.join(sorted(keys & config.keys() - {'flow', 'size'}))}, "
                f"and laminar-train {', '.join(sorted(OWN))}"
            )
    for word in words:
        name = word.partition("=")[0].lstrip("+")
        if name.startswith("size.") and name not in read:
            sizes = sorted(word for word in read if word.startswith("size."))
            raise Refused(f"{name} would change nothing: the sizes that this flow reads are {', '.join(sizes) or 'none'}")
    return idle


def resolved(config: Any, words: Sequence[str]) -> dict[str, Any]:
    """A composed config as plain containers, without the defaults that its flow does not read; raises as ``unread``."""
    from omegaconf import OmegaConf

    idle = unread(OmegaConf.to_container(config), words)
    return OmegaConf.to_container(OmegaConf.masked_copy(config, [key for key in config if key not in idle]), resolve=True)


def _read(config: dict[str, Any], key: str, seen: set[str]) -> Iterator[str]:
    """Every word in the interpolations below ``key``, and below the keys that they lead to."""
    seen.add(key)
    for text in _interpolations(config.get(key)):
        for word in _WORD.findall(text):
            yield word
            root = word.split(".")[0]
            if root in config and root not in seen:
                yield from _read(config, root, seen)


def _interpolations(node: Any) -> list[str]:
    if isinstance(node, dict):
        return [text for child in node.values() for text in _interpolations(child)]
    if isinstance(node, list):
        return [text for child in node for text in _interpolations(child)]
    return [node] if isinstance(node, str) and "${" in node else []


def _chosen(words: Sequence[str]) -> Iterator[str]:
    """The top-level keys that the words of a command line set, and the experiments (and variants) that they name."""
    for word in words:
        name, _, value = word.partition("=")
        if name.startswith("~"):
            continue
        name = re.split(r"[@.]", name.lstrip("+"))[0]
        yield name
        if name in ("experiment", "variant") and value:
            yield from _chosen([choice for member in value.strip("[]").split(",") for choice in page(name, member.strip())])
