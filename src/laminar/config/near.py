"""Did you mean: of the words that would do, the one that was meant."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches


def near(word: str, choices: Iterable[str] | Mapping[str, str], about: str = "") -> str:
    """`` (did you mean x?)``, or nothing where no choice is like the word; ``about`` stands before the choice.

    Of a mapping the values are what is meant by its keys.
    """
    meant = choices if isinstance(choices, Mapping) else {choice: choice for choice in choices}
    known = {choice.lower(): cure for choice, cure in meant.items()}
    found = get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f" (did you mean {about}{known[found[0]]}?)" if found else ""


def listed(choices: Iterable[str]) -> str:
    """Choices in a sentence, by the alphabet."""
    return ", ".join(sorted(choices))


def either(choices: Iterable[str]) -> str:
    """``a, b or c``."""
    *others, last = dict.fromkeys(choices)
    return f"{', '.join(others)} or {last}" if others else last
