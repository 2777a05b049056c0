"""Heads: what pages say about themselves, read from their text: the comment at the top, and one behind each option."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from laminar.config.pages import CONF

DEFAULT = re.compile(r"^  (?:- (\w+): (\S+)(?:\s+# (.*))?|# (\w+): (.*))$")
OPTION = re.compile(r"^(\w+):(?:\s+(\S.*?))??(?:\s+# ?(.*))?$")
NESTED = re.compile(r"^  (\w+): (\S.*?)(?:\s+# ?(.*))?$")
PARENT = re.compile(r"^defaults: \[(.*)\]|^  - (\w+)$")
SENTENCE = re.compile(r"(?<!al)(?<!etc)(?<! [A-Z])\.(?= [A-Z(]|$)")
ADDRESS = re.compile(r" \(https?://[^\s)]+\)|,? https?://[^\s);]+")
LEFT_OUT = ("defaults", "hydra", "flow", "callbacks", "logger")


class Line(NamedTuple):
    """A group or option, its default member or value, and what it means."""

    name: str
    default: str
    meaning: str


def groups(command: str) -> list[Line]:
    """The groups that a command's page chooses from, in its order; the default is "" where a recipe chooses."""
    found = []
    for line in _section((CONF / f"{command}.yaml").read_text(), "defaults"):
        if (match := DEFAULT.match(line)) and (name := match[1] or match[4]) != "hydra":
            found.append(Line(name, match[2] or "", match[3] or match[5] or ""))
    return found


def options(page: Path) -> list[Line]:
    """The options of a page with their defaults, a mapping's as ``size.width``; those of the page that it begins with, too."""
    text, found = page.read_text(), {}
    for line in _section(text, "defaults", own=True):
        if match := PARENT.match(line):
            parents = [name.strip() for name in (match[1] or match[2]).split(",")]
            pages = [page.with_name(f"{name}.yaml") for name in parents]
            found |= {line.name: line for parent in pages if parent.is_file() for line in options(parent)}
    outer = ""
    for line in text.splitlines():
        if (match := OPTION.match(line)) and match[1] not in LEFT_OUT and not match[1].startswith("_"):
            outer = match[1]
            if match[2] or not match[3]:
                found |= {outer: Line(outer, match[2] or "", match[3] or "")}
        elif match:
            outer = ""
        elif outer and (match := NESTED.match(line)) and not match[1].startswith("_"):
            found.pop(outer, None)
            found[f"{outer}.{match[1]}"] = Line(f"{outer}.{match[1]}", match[2], match[3] or "")
    return [line for line in found.values() if line.default]


def head(page: Path) -> str:
    """The comment at the top, on one line."""
    lines = []
    for line in page.read_text().splitlines():
        if not line.startswith("#"):
            break
        lines += [] if line.startswith("# @package") else [line.removeprefix("#").strip()]
    return " ".join(lines)


def first(text: str) -> str:
    """The first sentence, without addresses."""
    return ADDRESS.sub("", SENTENCE.split(text, maxsplit=1)[0])


def members(group: str, folders: Sequence[Path] = (CONF,)) -> dict[str, Path]:
    """The pages of a group by their names."""
    pages = (page for folder in folders for page in sorted((folder / group).glob("*.yaml")))
    return {page.stem: page for page in pages}


def menus(command: str, folder: str | None = None) -> dict[str, dict[str, Path]]:
    """The members of each group of a command, with those of a ``--config-dir``."""
    folders = (CONF, *([Path(folder)] if folder else []))
    others = [path.name for place in folders[1:] for path in place.glob("*/") if command == "train"]
    return {name: members(name, folders) for name in dict.fromkeys([line.name for line in groups(command)] + others)}


def _section(text: str, key: str, own: bool = False) -> Iterator[str]:
    """The lines below a top-level key, and with ``own`` its own."""
    inside = False
    for line in text.splitlines():
        begins = line.startswith(f"{key}:")
        inside = begins or (inside and line.startswith((" ", "-")))
        if inside and (own or not begins):
            yield line
