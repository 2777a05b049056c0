"""The loggers of one run: opened with it, told its config, closed with its exit code."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from pytorch_lightning.utilities import rank_zero_only

from laminar.config.recipe import build
from laminar.refused import Refused
from laminar.training.logger.csv import CSV
from laminar.training.logger.logger import REFUSED, RunLogger


@contextmanager
def open_loggers(config: Any, run_dir: str | Path, allow: Sequence[str] = ()) -> Iterator[list[RunLogger]]:
    """The loggers that ``config.logger`` asks for, as ``Trainer(logger=...)`` takes them.

    ``metrics.csv`` is written beside any of them; ``logger=null`` means none. However the block is left, every logger
    is closed with the exit code that the process would have. On ranks other than 0 the list is empty. A page that leaves its
    ``name`` or ``group`` null gets what the config knows: its ``title``, and the ``sweep`` that it is a job of.
    """
    plain = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    if not plain.get("logger") or rank_zero_only.rank != 0:
        yield []
        return
    loggers: list[RunLogger] = [CSV(run_dir)]
    try:
        if plain["logger"].get("_target_") != "laminar.training.logger.csv.CSV":
            told = {"name": plain.get("title"), "group": plain.get("sweep")}
            page = {option: told.get(option) if value is None else value for option, value in plain["logger"].items()}
            loggers.append(build(page, "logger", allow, RunLogger, run_dir=run_dir))
        for logger in loggers:
            logger.log_hyperparams(plain)
        yield loggers
    except BaseException as failure:
        _close(loggers, _exit_code(failure))
        raise
    _close(loggers, 0)


def summarise(loggers: list[RunLogger], numbers: Mapping[str, float | int | str], table: Sequence[Sequence[str]] = ()) -> None:
    """Tells every logger the run's final numbers, and the table of them."""
    for logger in loggers:
        logger.summarise(numbers, table)


def log_picture(loggers: list[RunLogger], name: str, path: Path, step: int) -> None:
    """Shows every logger a picture that lies in the run folder."""
    for logger in loggers:
        logger.log_picture(name, path, step)


def begin(loggers: list[RunLogger], step: int) -> None:
    """Tells every logger that a training begins, or goes on, after this many optimizer steps."""
    for logger in loggers:
        if isinstance(logger, RunLogger):
            logger.begin(step)


def settle(loggers: list[RunLogger]) -> None:
    """Brings to the disk what was logged: a state that is saved next goes on behind it."""
    for logger in loggers:
        if isinstance(logger, RunLogger):
            logger.settle()


def _close(loggers: list[RunLogger], exit_code: int) -> None:
    for logger in loggers:
        logger.close(exit_code)


def _exit_code(failure: BaseException) -> int:
    if isinstance(failure, Refused):
        return REFUSED
    if isinstance(failure, SystemExit):
        return failure.code if isinstance(failure.code, int) else int(failure.code is not None)
    return 130 if isinstance(failure, KeyboardInterrupt) else 1
