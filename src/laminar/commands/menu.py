"""What ``list`` shows: the groups, the members of one, or the options of a member. Read from the pages' text."""

import re
from collections.abc import Sequence
from pathlib import Path

from laminar.commands.columns import columns
from laminar.config.heads import first, groups, head, menus, options
from laminar.config.near import listed, near
from laminar.refused import Refused

WIDEST = 40  # of a number with its unit
COMMAND = re.compile(r"[:,.]? laminar-train ")
UNITS = re.compile(r",? test/nll in the benchmark's units.*")
EXPECTED = re.compile(r"\bExpect (.*)")
PUBLISHED = re.compile(r"^published: (\S+)", re.MULTILINE)


def text(command: str, asked: Sequence[str], folder: str | None = None) -> str:
    """Of ``laminar-train list``, ``list coupling`` or ``list coupling=affine``."""
    found = menus(command, folder)
    if not found:
        return f"laminar-{command} chooses from no groups: laminar-{command} --help lists its options"
    if not asked:
        rows = [(line.name, line.default or "-", line.meaning) for line in groups(command)]
        rows += [(name, "-", "") for name in found if name not in {row[0] for row in rows}]
        return f"Groups (laminar-{command} list GROUP shows the members):\n" + columns(rows, cut=True)
    group, _, member = asked[0].partition("=")
    if group not in found:
        raise Refused(f"laminar-{command} has no group {group}{near(group, [*found], 'list ')}: it has {listed(found)}")
    pages = found[group]
    if not member and len(asked) > 1:
        member = asked[1]
    if not member:
        return _experiments(pages) if group == "experiment" else _members(group, pages)
    if member not in pages:
        raise Refused(f"{group} has no member {member}{near(member, [*pages], f'{group}=')}: it has {listed(pages)}")
    return _page(f"{group}={member}", pages[member])


def _members(group: str, pages: dict[str, Path]) -> str:
    return f"{group}=\n" + columns([(name, first(head(page))) for name, page in pages.items()], cut=True)


def _experiments(pages: dict[str, Path]) -> str:
    rows = [("", "to expect", "of what")]
    for name, page in pages.items():
        about, published = head(page), PUBLISHED.search(page.read_text())
        expected = EXPECTED.search(about)
        number = first(UNITS.sub("", expected[1])) if expected else published[1] if published else "-"
        rows.append(
            (name, number if len(number) <= WIDEST else f"{number[: WIDEST - 1].rstrip()}…", first(COMMAND.split(about)[0]))
        )
    return "experiment=\n" + columns(rows, cut=True)


def _page(word: str, page: Path) -> str:
    rows = [(line.name, line.default, line.meaning) for line in options(page)]
    return f"{word}: {head(page)}\n" + (columns(rows) if rows else "  no options")
