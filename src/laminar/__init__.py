"""Laminar: normalizing flows out of one small set of parts, trained by one command."""

__version__ = "0.1.0"
