"""Where the pages of config lie, and a config of them without a command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import laminar

PACKAGE = Path(laminar.__file__).parent
# An installed package carries its pages; in a checkout they lie beside src.
CHECKOUT = None if (PACKAGE / "conf").is_dir() else PACKAGE.parents[1]
CONF = CHECKOUT / "conf" if CHECKOUT else PACKAGE / "conf"


def compose(name: str, words: Sequence[str] = ()) -> Any:
    """``conf/<name>.yaml`` with the words of a command line, as an OmegaConf node with its interpolations unresolved."""
    import hydra

    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose(name, list(words))
