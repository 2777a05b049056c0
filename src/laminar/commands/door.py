"""How a command begins and ends: help, the composed config, one sentence for what cannot be, an honest exit status."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from laminar.config.near import near
from laminar.refused import TRACEBACKS, Refused, sentences, shown, stoppable


def enter(name: str, about: str, task: Callable[[], Callable[[Any], Any]]) -> None:
    """Composes ``conf/<name>.yaml`` with the command line and calls ``task()(config)``, or shows help, members, the version.

    ``task`` imports what a run needs, which takes seconds.
    """
    with stoppable(at_once=True), sentences():
        if not _shown(name, about):
            _run(name, lambda: heavy(task))


def heavy(task: Callable[[], Any]) -> Any:
    """What a run needs, imported as fast as it can be."""
    from laminar.commands.lean import import_lightning

    import_lightning()
    return task()


def _shown(name: str, about: str) -> bool:
    """``--help``, ``--version`` and ``list``, for which nothing is imported."""
    words = sys.argv[1:]
    if "--version" in words:
        from laminar import __version__

        _print(f"laminar {__version__}")
    elif {"-h", "--help"} & set(words):
        from laminar.commands.help import text

        _print(text(name, about))
    elif "list" in words:
        from laminar.commands.menu import text

        before, asked = words[: words.index("list")], words[words.index("list") + 1 :]
        folder = next((word.removeprefix("--config-dir=") for word in before if word != "--config-dir"), None)
        _print(text(name, asked, folder))
    else:
        return False
    return True


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # who reads has read enough: ``| head``
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(name: str, task: Callable[[], Callable[[Any], Any]]) -> None:
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import open_dict

    from laminar.config.allow import packages
    from laminar.config.composer import Composer, composing
    from laminar.config.heads import menus
    from laminar.config.pages import CONF
    from laminar.config.translate import translated

    began: list[Any] = []

    def job(config: Any) -> Any:
        alone = HydraConfig.get().mode == RunMode.RUN  # in a sweep, Hydra notes the failure and takes the next job
        words = HydraConfig.get().overrides.task
        with _typed_environment(), sentences() if alone else nullcontext():
            with open_dict(config):
                config.allow = packages(words)  # whatever a page says
            began.append(config)
            with stoppable():
                return task()(config)

    flags, words = _flags()
    sys.argv[1:] = [word for word in sys.argv[1:] if word not in words] + translated(words, name, menus(name, flags.config_dir))
    shows = flags.cfg is not None or flags.info is not None
    with _hydra_raises(), composing(partial(Composer, ready=None if shows else task)):
        try:
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(job)()
        except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
            if began or isinstance(error, Refused):
                raise
            reason = f"{type(error).__name__}: {error}".strip(": ")
            raise Refused(f"Hydra cannot make sense of these words ({reason}): HYDRA_FULL_ERROR=1 shows where") from error


def _flags() -> tuple[Any, list[str]]:
    """Hydra's flags of the command line, and its other words."""
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    known = [flag for action in parser._actions for flag in action.option_strings]

    def refuse(message: str) -> None:
        strange = message.rpartition("unrecognized arguments: ")[2] if "unrecognized" in message else ""
        raise Refused(f"{message}{near(strange, known)}: --help lists the flags")

    parser.error = refuse
    flags = parser.parse_args()
    if flags.experimental_rerun is not None:
        raise Refused("--experimental-rerun loads a pickle, which may run anything: give the words of the command instead")
    if flags.shell_completion and not any(word.split("=")[0] in ("install", "uninstall", "query") for word in flags.overrides):
        raise Refused("--shell-completion says what to do with it: --shell-completion install=bash, or uninstall=bash")
    for word in flags.overrides:
        if not word.lstrip("+~") or word.startswith(("=", "@")) or ("=" not in word and not word.startswith("~")):
            raise Refused(f"{shown(word)} is no word of a command: say key=value")
    if flags.config_dir is not None and not os.path.isdir(flags.config_dir):
        raise Refused(f"--config-dir {flags.config_dir} is not there: it takes a folder with pages of your own")
    return flags, flags.overrides


@contextmanager
def _hydra_raises() -> Iterator[None]:
    """Inside, Hydra lets errors through, which it would otherwise print in its own way before it exits."""
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        os.environ["HYDRA_FULL_ERROR"] = "1" if TRACEBACKS else "0"


@contextmanager
def _typed_environment() -> Iterator[None]:
    """Inside, the environment is as it was typed: what a job starts, further ranks and workers, inherits it."""
    os.environ["HYDRA_FULL_ERROR"] = "1" if TRACEBACKS else "0"
    try:
        yield
    finally:
        os.environ["HYDRA_FULL_ERROR"] = "1"
