"""Words: what a command line chose, in the forms that people read, group and filter runs by."""

from collections.abc import Mapping, Sequence
from typing import Any

from laminar.pictures.figure import subject

UNTOLD = ("name", "task_name", "tags", "logger", "callbacks", "allow", "hydra")  # words that do not say what a run is


def told(config: Mapping[str, Any], choices: Mapping[str, Any], words: Sequence[str], own: str | None = None) -> dict[str, Any]:
    """What a run's config says of its command line.

    Args:
        choices: group -> member, as Hydra found them.
        words: of the command line.
        own: the words by which this job differs from the others of its sweep.

    Returns:
        ``choices``: group -> member, by Hydra's word or a later one of the run's own; ``options``: what else was set, by key,
        a number or the text that was typed; ``title``: what to call the run.
    """
    members = choices | {group: member for group, _, member in (word.partition("=") for word in words) if group in choices}
    ours = [group for group in members if group.partition("/")[0] not in ("hydra", "local")]
    members = {group: members[group] for group in ours if isinstance(members[group], str)}
    pairs = [word.lstrip("+").partition("=") for word in words if "=" in word]
    options = {key: _number(value) for key, _, value in pairs if key not in choices and not _untold(key)}
    return {"choices": members, "options": options, "title": own or _title(config, members, words)}


def _title(config: Mapping[str, Any], choices: Mapping[str, str], words: Sequence[str]) -> str:
    """``mine flow=glow seed=1``: the run's name where it has one, its experiment, its words."""
    name, experiment = str(config["name"]), choices.get("experiment")
    named = [part for part in (name if name not in ("default", experiment) else None, experiment) if part]
    said = [word for word in words if not _untold(word.partition("=")[0]) and not word.startswith("experiment=")]
    return " ".join([*named, *said]) or subject({**config, "choices": choices})


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _untold(key: str) -> bool:
    return key.lstrip("+~").split(".")[0] in UNTOLD
