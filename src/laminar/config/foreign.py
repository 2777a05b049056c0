"""Foreign pages: those of ``--config-dir`` or ``hydra.searchpath``, which are not Laminar's own.

What a page puts below ``hydra`` (callbacks, a launcher, loggers with factories, the jobs' environment) is built, or done,
before any of our code runs. So foreign pages say nothing there but where runs lie and what a sweep goes through; the rest is
for the command line, whose words are the user's. Interpolations are theirs to use: no resolver builds anything, what they give
is judged, like everything else, when a recipe is built, and a variable of the environment goes no further than the run's own
files and logger.
"""

import re
from collections.abc import Iterator
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import OmegaConf

from laminar.config.pages import CONF
from laminar.refused import Refused, shown

OURS = (f"file://{CONF}", "pkg://hydra.conf", "structured://")
PLUGINS = "pkg://hydra_plugins."
PLAIN = ("mode", "run.dir", "sweep.dir", "sweep.subdir")
SWEPT = re.compile(r"[\w.+~/]+")


class Loader(ConfigLoaderImpl):
    """Hydra's, which refuses such a page before it becomes a part of any config: the command's, or one job's of a sweep."""

    def _load_single_config(self, *args: Any, **kwargs: Any) -> Any:
        loaded = super()._load_single_config(*args, **kwargs)
        if loaded.path not in OURS and not loaded.path.startswith(PLUGINS):
            content = OmegaConf.to_container(loaded.config)
            check(content.get("hydra") if isinstance(content, dict) else None, loaded.path.removeprefix("file://"))
        return loaded


def check(node: Any, folder: str) -> None:
    """Refuses what a foreign page may not put below ``hydra``."""
    for key, value in _leaves(node, ""):
        root, _, name = key.partition("sweeper.params.")
        swept = not root and SWEPT.fullmatch(name) and "hydra" not in name and name.lstrip("+~") != "allow"
        if key not in PLAIN and not swept:
            raise Refused(
                f"a page in {folder} sets hydra.{key} to {shown(value)}, which Hydra would obey before anybody can judge it: "
                "take it out, and say it on the command line where it is yours"
            )


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Key, with dots, and value."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    elif path or node is not None:
        yield path, node
