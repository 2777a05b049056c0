"""Digits: scikit-learn's 1,797 handwritten digits of 8x8 pixels with 17 grey levels (UCI, Alpaydin & Kaynak 1998).

The set comes with scikit-learn, so it needs no file. It has no official test split: ours is the same 360 rows for ever,
stratified by class.
"""

import torch

from laminar.data.source import Source, Split, Splits


class Digits(Source):
    levels = 17
    classes = 10

    def read(self) -> Splits:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        images, labels = load_digits(return_X_y=True)
        digits = Split.whole(torch.from_numpy(images).byte().view(-1, 1, 8, 8), torch.from_numpy(labels))
        train, test = train_test_split(digits.ids.numpy(), test_size=360, stratify=labels, random_state=0)
        train, test = (digits.pick(torch.from_numpy(rows).sort().values) for rows in (train, test))
        return Splits(train, None, test)
