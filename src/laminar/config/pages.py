"""Where the pages of config lie, and a config of them without a command line."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import laminar

PACKAGE = Path(laminar.__file__).parent
# An installed package carries its pages; in a checkout they lie beside src.
CHECKOUT = None if (PACKAGE / "conf").is_dir() else PACKAGE.parents[1]
CONF = CHECKOUT / "conf" if CHECKOUT else PACKAGE / "conf"


def compose(name: str, words: Sequence[str] = ()) -> Any:
    """``conf/<name>.yaml`` with the words of a command line, as an OmegaConf node with its interpolations unresolved."""
    from hydra import compose

    with sparing(), _opened():
        return compose(name, list(words))


@contextmanager
def sparing() -> Iterator[None]:
    """Inside, Hydra collects the choices made so far only for lists of defaults that refer to them, which saves a third of a
    composition: it would do so for each page."""
    import hydra._internal.defaults_list as internal

    hydras = internal._create_interpolation_map

    def where_asked(overrides: Any, defaults: Sequence[Any], own: bool) -> Any:
        return hydras(overrides, defaults, own) if any(default.is_interpolation() for default in defaults) else None

    internal._create_interpolation_map = where_asked
    try:
        yield
    finally:
        internal._create_interpolation_map = hydras


def recompose(name: str, words: Sequence[str]) -> Any:
    """The same inside a command that Hydra runs, with the pages that it was given."""
    from hydra import compose as again
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    if not GlobalHydra.instance().is_initialized():
        return compose(name, words)
    said = HydraConfig.get().overrides.hydra if HydraConfig.initialized() else []
    return again(name, [word for word in said if word.startswith("hydra.searchpath=")] + list(words))


def page(group: str, member: str) -> list[str]:
    """What a page chooses, as words of a command line: the groups of its defaults, and its own top-level keys."""
    from hydra.core.default_element import GroupDefault
    from hydra.core.global_hydra import GlobalHydra

    if not GlobalHydra.instance().is_initialized():
        with _opened():
            return page(group, member)
    found = GlobalHydra.instance().config_loader().repository.load_config(f"{group}/{member}")
    if found is None or found.header["package"] != "_global_":
        return []
    groups = [default for default in found.defaults_list or () if isinstance(default, GroupDefault)]
    named = [f"{default.group.lstrip('/')}={default.value}" for default in groups]
    return [*named, *(f"{key}=" for key in found.config if key not in ("defaults", "hydra"))]


def _opened() -> Any:
    from hydra import initialize_config_dir

    return initialize_config_dir(str(CONF), version_base="1.3")
