"""Owner: a folder belongs to one run, or one sweep, at a time; whoever comes second is told, or takes another."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from laminar.refused import Refused

LOCK = ".lock"  # goes with its folder alone: whoever took hold of one that is gone finds out
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


@contextmanager
def owning(folder: Path, another: bool = False) -> Iterator[Path]:
    """A folder that is this process's alone for the block, made if it is not there.

    Args:
        folder: where to be alone.
        another: whether ``<folder>-1``, ``<folder>-2``, ... will do: the first that nobody has, where the folder is somebody
            else's or was (names that hold the second are taken by all who start in it).

    Raises:
        Refused: where it cannot be written, or another process has it.
    """
    try:
        held = _lock(folder)
        if another and (held is None or any(path.name != LOCK for path in folder.iterdir())):
            _release(held)
            folder = _made(folder)
            held = _lock(folder)
    except OSError as error:
        raise Refused(f"the run folder {folder} cannot be written ({error.strerror}): choose another hydra.run.dir") from error
    if held is None:
        raise Refused(f"{folder} belongs to a run that is still going ({_holder(folder)}): wait until it ends, or stop it")
    try:
        yield folder
    finally:
        _release(held)


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder while it is open, in this process alone; None where another holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    held = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _release(held)
        return None
    except OSError as error:
        if error.errno not in NO_LOCKS:  # a file system that knows none leaves its users alone
            _release(held)
            raise
    if not os.fstat(held).st_nlink:  # a run that was refused has removed it in the meantime
        _release(held)
        return _lock(folder)
    os.ftruncate(held, 0)
    os.write(held, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    return held


def held(folder: Path) -> bool:
    """Whether a process is at work in a folder."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system that knows no locks
        return False
    finally:
        os.close(lock)
    return False


def _release(held: int | None) -> None:
    if held is not None:
        os.close(held)


def _made(folder: Path) -> Path:
    """The first numbered folder beside this one that was not there."""
    number = 1
    while True:
        try:
            (other := folder.with_name(f"{folder.name}-{number}")).mkdir()
        except FileExistsError:
            number += 1
        else:
            return other


def _holder(folder: Path) -> str:
    try:
        return (folder / LOCK).read_text(errors="replace").strip() or "its .lock is held"
    except OSError:
        return "its .lock is held"
