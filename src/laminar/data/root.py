"""Root: the folder that holds data sets, on the machine at hand."""

import os


def rooted(root: str | None) -> str:
    """``root`` as it was given; without one ``LAMINAR_DATA``, else ``data``. Each process asks anew, so that runs can move."""
    return root or os.environ.get("LAMINAR_DATA") or "data"
