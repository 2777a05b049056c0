"""Refused: how Laminar says no, and how a command says it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TRACEBACKS = os.environ.get("HYDRA_FULL_ERROR") == "1"


class Refused(ValueError):
    """A request that cannot work. Its message is one sentence: the option, the reason, and what would work."""


@contextmanager
def sentences() -> Iterator[None]:
    """Inside, a refusal (ours, Hydra's, the file system's) is one line on stderr and exit status 2, without a traceback.

    ``HYDRA_FULL_ERROR=1`` shows tracebacks.
    """
    if TRACEBACKS:
        yield
        return
    from hydra.errors import HydraException
    from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue, OmegaConfBaseException
    from yaml import YAMLError

    try:
        yield
    except InterpolationKeyError as error:
        part, _, key = error.full_key.partition(".")[0], *str(error).split("'")[:2]
        say(Refused(f"this {part} reads {key}, which nothing here chooses: add +{key}=..., or choose another {part}"))
        raise SystemExit(2) from None
    except MissingMandatoryValue as error:
        say(Refused(f"{error.full_key} has no value: say {error.full_key}=..."))
        raise SystemExit(2) from None
    except (Refused, HydraException, OmegaConfBaseException, YAMLError, OSError) as error:
        say(error)
        raise SystemExit(2) from None


def say(error: BaseException) -> None:
    """The error's message on one line of stderr, with its cause where it adds something."""
    cause = error.__cause__ if not isinstance(error, Refused) else None
    text = " ".join(f"{error} {cause or ''}".split())
    print(f"laminar: {text}", file=sys.stderr, flush=True)
