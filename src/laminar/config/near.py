"""Did you mean: of the words that would do, the one that was meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def near(word: str, choices: Iterable[str], about: str = "") -> str:
    """`` (did you mean x?)``, or nothing where no choice is like the word; ``about`` stands before the choice."""
    known = {choice.lower(): choice for choice in choices}
    found = get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return f" (did you mean {about}{known[found[0]]}?)" if found else ""


def listed(choices: Iterable[str], most: int = 24) -> str:
    """Choices in a sentence: ``a, b and 3 more``."""
    names = sorted(choices)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[: most if more else None]) + more
