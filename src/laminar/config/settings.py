"""Settings: other options, or another member, for parts of a trained flow: the same weights seen in another way."""

from collections.abc import Mapping, Sequence
from inspect import Parameter, signature
from typing import Any

from laminar.config.recipe import find
from laminar.config.slots import Slot
from laminar.refused import Refused

Pages = Mapping[str, Mapping[str, Any]]  # group -> options, and ``_target_`` where another member is meant


def found(config: Any, group: str) -> list[dict[str, Any]]:
    """Every page of a group in a resolved config, in reading order."""
    if isinstance(config, Mapping):
        own = isinstance(config.get(group), Mapping) and "_target_" in config[group]
        here = [config[group]] if own else []
        return here + [page for key, child in config.items() if not (own and key == group) for page in found(child, group)]
    if isinstance(config, Sequence) and not isinstance(config, str):
        return [page for child in config for page in found(child, group)]
    return []


def replaced(config: dict[str, Any], pages: Pages, allow: Sequence[str] = ()) -> dict[str, Any]:
    """A resolved config, in which every page of a group in ``pages`` has the options given there, or is another member.

    Raises:
        Refused: where the config holds no page of the group, or its member does not know an option.
    """
    for group, options in pages.items():
        if not found(config, group):
            name, value = next(iter(options.items()))
            word = f"{group}={member(options)}" if "_target_" in options else f"{group}.{name}={value}"
            raise Refused(f"{word} would change nothing: this flow has no {group}, leave it out")
        config = _walk(config, group, options, allow)
    return config


def in_force(config: Any, groups: Sequence[str]) -> dict[str, Any]:
    """What a resolved config says of each group that it reads: its member and options, a list where parts differ."""
    pages = {group: [{"member": member(page), **options_of(page)} for page in found(config, group)] for group in groups}
    return {group: rows[0] if all(row == rows[0] for row in rows) else rows for group, rows in pages.items() if rows}


def name_of(pages: Pages, allow: Sequence[str] = ()) -> str:
    """Settings as a part of a file's name: ``hutchinson-num_probes8-rtol1e-06``. A member's own defaults are not told."""
    words = []
    for page in pages.values():
        defaults = {name: known.default for name, known in _known(page, allow).items()} if "_target_" in page else {}
        words += [member(page)] if "_target_" in page else []
        words += [f"{name}{value}" for name, value in options_of(page).items() if defaults.get(name, Parameter.empty) != value]
    return "-".join(words)


def member(page: Mapping[str, Any]) -> str:
    """The name of a member: that of the file it is built from."""
    return page["_target_"].split(".")[-2]


def options_of(page: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in page.items() if not name.startswith("_")}


def _walk(node: Any, group: str, options: Mapping[str, Any], allow: Sequence[str]) -> Any:
    if isinstance(node, Mapping):
        is_page = isinstance(node.get(group), Mapping) and "_target_" in node[group]
        return {
            key: _merged(child, group, options, allow) if key == group and is_page else _walk(child, group, options, allow)
            for key, child in node.items()
        }
    if isinstance(node, Sequence) and not isinstance(node, str):
        return [_walk(child, group, options, allow) for child in node]
    return node


def _merged(page: Mapping[str, Any], group: str, options: Mapping[str, Any], allow: Sequence[str]) -> dict[str, Any]:
    page = {**options, "_partial_": True} if "_target_" in options else {**page, **options}
    knows = _known(page, allow)
    for name, value in options_of(page).items():
        if name not in knows:
            raise Refused(f"{group}.{name}={value} would change nothing: {group}={member(page)} knows {', '.join(knows)}")
    return page


def _known(page: Mapping[str, Any], allow: Sequence[str]) -> Mapping[str, Parameter]:
    """The options of a page's member."""
    return signature(find(page["_target_"], Slot("flow", allow))).parameters
