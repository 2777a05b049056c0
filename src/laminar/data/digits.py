"""Digits: scikit-learn's 1,797 handwritten digits of 8x8 pixels with 17 grey levels (UCI, Alpaydin & Kaynak 1998).

The set comes with scikit-learn, so it needs no file. It has no official test split: ours is the same 360 rows for ever,
stratified by class.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from laminar.data.source import Source, Split, Splits

# A bit for each row: those that scikit-learn's train_test_split(test_size=360, stratify=labels, random_state=0) draws.
TEST = (
    "000004883524104000064100934205001a00080100240028062c12001000940a009019120420f8a0028110a000080a8820441524494240a00"
    "a0000004004d80000818020004805c400104008a0100005404800301000020ec409000224840083a8013c20a6980a0000000b08400804a018"
    "4802024041c1008004404684376a810216004480004042a0a4180a5000840b8561c608108008004c80c02004068e00010882008100380803c"
    "008190000100e01008410a0210033282904c044c080680e0102830082008822a6402c24042108a860809081a00c02820242120138a41500"
)


class Digits(Source):
    levels = 17
    classes = 10

    def read(self) -> Splits:
        pixels, label = torch.from_numpy(table()).split([64, 1], 1)
        digits = Split.whole(pixels.reshape(-1, 1, 8, 8), label[:, 0])
        test = torch.from_numpy(np.unpackbits(np.frombuffer(bytes.fromhex(TEST), np.uint8), count=len(label))).bool()
        return Splits(digits.pick(~test), None, digits.pick(test))


def table() -> np.ndarray:
    """A row of 64 pixels and a label for each digit, from the file where scikit-learn has had them since its beginning: to
    import it takes a second."""
    (folder,) = find_spec("sklearn").submodule_search_locations
    if (path := Path(folder) / "datasets" / "data" / "digits.csv.gz").exists():
        return np.loadtxt(path, delimiter=",", dtype=np.uint8)
    from sklearn.datasets import load_digits

    return np.column_stack(load_digits(return_X_y=True)).astype(np.uint8)
