"""Refused: how Laminar says no."""


class Refused(ValueError):
    """A request that cannot work. Its message is one sentence: the option, the reason, and what would work."""
