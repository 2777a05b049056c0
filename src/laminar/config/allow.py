"""``allow=[mypackage]``: whom a command line trusts. Its words alone say so: no page, no run folder and no checkpoint does."""

from collections.abc import Sequence
from typing import Any

from laminar.refused import Refused


def packages(words: Sequence[str]) -> list[str]:
    """The packages that the words of a command line allow; the last word counts.

    Raises:
        Refused: where one is not the name of a package.
    """
    found: Any = []
    for word in words:
        if word.partition("=")[0].lstrip("+") == "allow":
            found = _value(word)
    found = [found] if isinstance(found, str) else found or []
    for name in found if isinstance(found, list) else [found]:
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            raise Refused(f"allow={name} is not the name of a package: say allow=[mypackage]")
    return found


def _value(word: str) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(word.lstrip("+")).value()
