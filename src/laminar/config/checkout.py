"""Checkout: which code runs, as git knows it."""

import subprocess

from laminar.config.pages import CHECKOUT


def commit() -> str | None:
    """The checkout's git commit, with ``+`` where files differ from it; None for an installed package."""
    head, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    return None if head is None or changes is None else head.strip() + ("+" if changes.strip() else "")


def diff() -> str:
    """How the tracked files differ from that commit, as ``git apply`` reads it; empty where they do not."""
    return _git("diff", "HEAD") or ""


def _git(*words: str) -> str | None:
    """What git says of the checkout; None where there is none, or no git."""
    if CHECKOUT is None or not (CHECKOUT / ".git").exists():
        return None
    try:
        said = subprocess.run(["git", *words], cwd=CHECKOUT, capture_output=True, text=True, errors="replace", check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return said.stdout
