"""How a command begins and ends: help, the composed config, one sentence for what cannot be, an honest exit status."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from laminar.config.allow import packages
from laminar.config.pages import CONF
from laminar.refused import TRACEBACKS, Refused, sentences, stoppable


def enter(name: str, task: Callable[[Any], Any], about: str) -> None:
    """Composes ``conf/<name>.yaml`` with the command line and calls ``task(config)``; ``--help`` prints ``about``.

    ``group=null`` means none of a group, which Hydra spells ``~group``.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(about.strip(), _groups(), _FLAGS, sep="\n\n")
        return
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import open_dict

    def job(config: Any) -> Any:
        alone = HydraConfig.get().mode == RunMode.RUN  # in a sweep, Hydra notes the failure and takes the next job
        with sentences() if alone else nullcontext():
            with open_dict(config):
                config.allow = packages(HydraConfig.get().overrides.task)  # whatever a page says
            return task(config)

    groups = {path.name for path in CONF.iterdir() if path.is_dir()}
    sys.argv[1:] = [f"~{word[:-5]}" if word.endswith("=null") and word[:-5] in groups else word for word in sys.argv[1:]]
    with stoppable(), sentences(), _hydra_raises(), _pages_judged():
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(job)()


@contextmanager
def _hydra_raises() -> Iterator[None]:
    """Inside, Hydra lets errors through, which it would otherwise print in its own way before it exits."""
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        os.environ["HYDRA_FULL_ERROR"] = "1" if TRACEBACKS else "0"


@contextmanager
def _pages_judged() -> Iterator[None]:
    """Inside, Hydra composes by a loader that judges pages which are not Laminar's, and reads no pickled job."""
    import hydra._internal.hydra as internal
    from hydra._internal.utils import get_args_parser

    from laminar.config.foreign import Loader

    if get_args_parser().parse_args().experimental_rerun is not None:
        raise Refused("--experimental-rerun loads a pickle, which may run anything: give the words of the command instead")
    hydras, internal.ConfigLoaderImpl = internal.ConfigLoaderImpl, Loader
    try:
        yield
    finally:
        internal.ConfigLoaderImpl = hydras


def _groups() -> str:
    lines = ["Groups (group=member):"]
    for group in sorted(path for path in CONF.iterdir() if path.is_dir() and path.name != "hydra"):
        lines.append(f"  {group.name:16}" + " ".join(sorted(page.stem for page in group.glob("*.yaml"))))
    return "\n".join(lines)


_FLAGS = """Flags:
  -m, --multirun        run every combination of comma-separated values
  --cfg job             show the composed config and stop
  --config-dir DIR      add a folder with pages of your own
  HYDRA_FULL_ERROR=1    show tracebacks"""
