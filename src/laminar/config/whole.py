"""Files that are whole or absent: written beside their target, brought to the disk, and renamed onto it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that becomes ``path`` when the block ends: until then, and where it raises, the old file stands.

    A link is never written through: one in the place of the part is removed, one in the place of the target is replaced.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)  # left by a process that died, or put there by a stranger
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _settle(path.parent)


def write_text(path: str | Path, text: str) -> None:
    """``text`` as the whole of a file, in UTF-8."""
    with whole(path) as file:
        file.write(text.encode())


def mend(path: str | Path) -> None:
    """Cuts off a log what is no whole line: what a process, or a machine, left of the last one when it died."""
    with open(path, "rb+") as file:
        text = file.read()
        end = text.rfind(b"\n", 0, text.find(b"\0") if b"\0" in text else len(text)) + 1
        if end < len(text):
            file.truncate(end)


def _settle(folder: Path) -> None:
    """The rename itself brought to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
