"""Lightning, imported without what only metrics of pictures and of sound, and their plots, need: a quarter of the imports."""

import sys

UNUSED = ("torchvision", "scipy", "matplotlib")  # which torchmetrics, which Lightning imports, imports for them, if it can


def import_lightning() -> None:
    """Imports it, unless somebody has."""
    if "torchmetrics" in sys.modules:
        return
    from lightning_utilities.core import imports

    there, met = imports.package_available, imports.RequirementCache.__bool__
    imports.package_available = lambda name: name not in UNUSED and there(name)
    imports.RequirementCache.__bool__ = lambda asked: not (asked.requirement or "").startswith(UNUSED) and met(asked)
    try:
        import pytorch_lightning  # noqa: F401
    finally:
        imports.package_available, imports.RequirementCache.__bool__ = there, met
