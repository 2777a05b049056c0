"""Meant: what a word of a command line means that Hydra cannot compose, and the sentence for it."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf

from laminar.config.jobs import values
from laminar.config.judge import GIVEN
from laminar.config.near import listed, near
from laminar.config.signature import signature
from laminar.config.translate import WORDS, spelt
from laminar.refused import Refused

SEVERAL = ("callbacks", "experiment", "variant", "debug", "hparams_search")  # groups of which more than one can be chosen
MOST = 24  # members in a sentence
CULPRIT = re.compile(
    r"(?:Could not (?:override|delete|delete from config\.)|already at) '([\w.@/]+)'|Multiple values for ([\w/]+)"
)


def in_our_words(
    error: Exception, name: str, parsed: Sequence[Override], repository: Any, compose: Callable[[str, list[str]], DictConfig]
) -> Refused | None:
    """The sentence for what Hydra cannot compose; for a key or group that is not there, by what is there without it."""
    if "Ambiguous value" in str(error):
        word = next(word.input_line for word in parsed if word.is_sweep_override())
        return Refused(f"{word} is more than one value: laminar-{name} -m runs one after another")
    if "Error merging override" in str(error):
        word = str(error).partition("override ")[2].splitlines()[0]
        return Refused(f"{word} is not what stands there: laminar-{name} --help lists the options")
    found = CULPRIT.search(str(error))
    if found is None:
        return None
    key = (found[1] or found[2]).partition("@")[0]
    word = next((word.input_line for word in parsed if word.key_or_group == key), key)
    if "already" in str(error) or "Multiple values" in str(error):
        return Refused(f"{word} is there already: say {word.lstrip('+')}")
    groups = [word for word in parsed if repository.group_exists(word.key_or_group) and word.key_or_group != key]
    try:
        config = compose(name, [word.input_line for word in groups])
    except ConfigCompositionException:
        return None
    if not repository.group_exists(key):
        return Refused(_unknown(key, word, name, config))
    choices = config.hydra.runtime.choices.items()
    made = [group for group, member in choices if member and "/" not in group and group not in ("hydra", "local")]
    return Refused(f"{word} would change nothing: this {'flow' if name == 'train' else 'command'} chooses {listed(made)}")


def refuse_members(parsed: Sequence[Override], repository: Any) -> None:
    """Refuses a member that its group does not have, and two of a group that takes one."""
    for word in parsed:
        group = word.key_or_group
        if word.is_delete() or not repository.group_exists(group):
            continue
        if isinstance(word.value(), list) and not word.is_sweep_override() and group not in SEVERAL:
            raise Refused(f"{word.input_line} chooses several: {group} is one of its members, or with -m one after another")
        for member in _members(word):
            if not repository.config_exists(f"{group}/{member}"):
                options = repository.get_group_options(group)
                groups = repository.get_group_options("", ObjectType.GROUP)
                homes = [home for home in groups if repository.config_exists(f"{home}/{member}")]
                meant = f" (did you mean {homes[0]}={member}?)" if homes else near(member, options, f"{group}=")
                shows = f"laminar-train list {group} shows all {len(options)}"
                what = f"it has {listed(options)}" if len(options) < MOST else shows
                raise Refused(f"{group} has no member {member}{meant}: {what}")


def _members(word: Override) -> Iterator[str]:
    for value in values(word) if word.is_sweep_override() else [word.value()]:
        for member in value if isinstance(value, list) else [value]:
            if member is not None:
                yield str(member)


def _unknown(key: str, word: str, command: str, config: DictConfig) -> str:
    """The sentence for a key that no page has."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    if not OmegaConf.is_dict(node):
        return f"{key} is no option{near(key, _paths(config))}: laminar-{command} --help lists options and groups"
    keys = [child for child in node if child != "hydra" and not str(child).startswith("_")]
    if not parent:
        cures = {other: spelt(cure, other, word.partition("=")[2]) for other, cure in WORDS[command].items() if "=" in cure}
        known = cures | {key: str(key) for key in keys}
        return f"{name} is no option{near(name, known)}: laminar-{command} --help lists options and groups"
    if key in GIVEN:
        return f"{key} is given by the run: {GIVEN[key]}"
    takes = signature(str(node.get("_target_")))
    if takes and name in takes.options:
        return f"{key} is an option that this page leaves out: say +{word}"
    return f"{key} is no option{near(name, keys, f'{parent}.')}: {parent} takes {listed(keys) or 'none'}"


def _paths(config: DictConfig) -> Iterator[str]:
    """Every key, with dots, down to an option of an option."""
    for root, node in config.items_ex(resolve=False):
        if root != "hydra":
            yield str(root)
            if OmegaConf.is_dict(node) and not node._is_none() and not node._is_interpolation():
                yield from (f"{root}.{name}" for name in node if not str(name).startswith("_"))
