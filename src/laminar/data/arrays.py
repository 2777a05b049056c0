"""Arrays: files in NumPy's ``.npz`` format, whose headers are looked at before anything is unpacked."""

from collections.abc import Sequence
from math import prod
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from numpy.lib import format as npy

from laminar.data.memory import room_for

COPIES = 2  # of an array that are held at once while its rows are put in order


def read_arrays(file: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of those names that a file has. A megabyte may unpack to a hundred gigabytes: their headers tell.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, in the reader's words.
        Refused: its arrays would need more memory than there is.
    """
    if file.exists() and not file.is_file():
        raise ValueError("a folder, a pipe or a device")
    with ZipFile(file) as members:
        there = [name for name in names if f"{name}.npy" in members.namelist()]
        size = sum(unpacked(members, f"{name}.npy") for name in there)
    room_for(COPIES * size, f"{file} unpacked", "give fewer rows, or smaller ones")
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in there}


def unpacked(members: ZipFile, name: str) -> int:
    """Bytes of an array, as its header says and its member of the file has them."""
    with members.open(name) as member:
        version = npy.read_magic(member)
        shape, _, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(member)
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects")
    size = prod(shape) * dtype.itemsize
    if size > members.getinfo(name).file_size:
        raise ValueError(f"{name} says that it has {size} bytes, and has {members.getinfo(name).file_size}")
    return size
