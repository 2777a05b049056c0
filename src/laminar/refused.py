"""Refused: how Laminar says no, and how a command says it."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from reprlib import Repr
from types import FrameType

TRACEBACKS = os.environ.get("HYDRA_FULL_ERROR") == "1"
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 120


class Refused(ValueError):
    """A request that cannot work. Its message is one sentence: the option, the reason, and what would work."""


class Stopped(SystemExit):
    """A signal has ended the process."""


STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def stoppable(lost: Callable[[], str] | None = lambda: "nothing was begun", at_once: bool = False) -> Iterator[None]:
    """Inside, Ctrl-C, SIGTERM and SIGUSR1 end the process with one sentence and exit status 128 + signal.

    ``lost`` says what becomes of its work; None, of a process that others speak for, says nothing. The innermost block decides.
    Training, which saves first, has handlers of its own. ``at_once`` is for a time in which nothing is made: the import of
    torch swallows an exception that comes in the middle of it, or aborts.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        if lost is not None:
            print(f"laminar: stopped by {signal.Signals(number).name}: {lost()}", file=sys.stderr, flush=True)
        if at_once:
            os._exit(128 + number)
        raise Stopped(128 + number)

    before = [signal.signal(number, leave) for number in STOPS]
    try:
        yield
    finally:
        for number, handler in zip(STOPS, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def sentences(speaks: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Inside, a refusal (ours, Hydra's, the file system's) is one line on stderr and exit status 2, without a traceback.

    ``HYDRA_FULL_ERROR=1`` shows tracebacks. A process for which another speaks is asked whether it has to itself.
    """
    if TRACEBACKS:
        yield
        return
    try:
        yield
    except Exception as error:
        if (told := _told(error)) is None:
            raise
        if speaks():
            say(told)
        raise SystemExit(2) from None


def _told(error: Exception) -> Exception | None:
    """The error that a sentence tells, or None where it is nobody's fault but ours."""
    if isinstance(error, Refused | OSError):
        return error
    from hydra.errors import HydraException
    from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue, OmegaConfBaseException
    from yaml import YAMLError

    if isinstance(error, InterpolationKeyError):
        part, _, key = error.full_key.partition(".")[0], *str(error).split("'")[:2]
        return Refused(f"this {part} reads {key}, which nothing here chooses: add +{key}=..., or choose another {part}")
    if isinstance(error, MissingMandatoryValue):
        return Refused(f"{error.full_key} has no value: say {error.full_key}=...")
    return error if isinstance(error, HydraException | OmegaConfBaseException | YAMLError) else None


def say(error: BaseException) -> None:
    """The error's message on one line of stderr, with its cause where it adds something."""
    cause = error.__cause__ if not isinstance(error, Refused) else None
    text = " ".join(f"{error} {cause or ''}".split())
    text = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)  # a file's words may steer a terminal
    print(f"laminar: {text}", file=sys.stderr, flush=True)


def shown(value: object) -> str:
    """What somebody's file says, as a sentence can hold it: quoted, and cut where it is long."""
    return _SHORT.repr(value)
