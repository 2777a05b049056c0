"""Binary values, drawn by grey ones: once, or for every epoch, and always as a function of seed, epoch and row."""

import numpy as np
import pytest
import torch

from laminar.data.batches import Order
from laminar.data.datamodule import FlowDataModule
from laminar.data.digits import Digits
from laminar.data.npz import Npz
from laminar.data.toys import Moons
from laminar.refused import Refused


def splits(binary: str | None, seed: int = 0):
    return Digits(batch_size=100, binary=binary).load(seed)


def test_a_value_is_1_as_often_as_its_grey_says():
    train, grey = splits("dynamic").train, splits(None).train.values.double() / 16
    rows, epochs = torch.arange(len(train)), 200
    draws = torch.stack([train.redrawn(rows, 0, epoch) for epoch in range(epochs)])
    assert draws.dtype == torch.uint8 and draws.max() == 1 and draws.shape[1:] == train.values.shape
    share = draws.double().mean(0)
    assert ((share - grey).abs() <= 6 * (grey * (1 - grey) / epochs).sqrt()).all()  # black and white are certain
    shift = (share - grey) / (grey * (1 - grey) / epochs).sqrt().clamp(min=1e-9)
    assert shift[(grey > 0) & (grey < 1)].std() == pytest.approx(1, abs=0.02)  # and draws as independent as they should be


def test_an_epochs_draw_is_a_function_of_seed_epoch_and_row():
    source = Digits(batch_size=100, binary="dynamic")
    train = source.load(0).train
    whole = Order(source, train, seed=1, epoch=3).values(torch.arange(50))
    some = Order(source, train, seed=1, epoch=3).values(torch.tensor([7, 3]))
    assert torch.equal(some, whole[[7, 3]])
    for seed, epoch in ((1, 4), (2, 3)):
        assert not torch.equal(Order(source, train, seed, epoch).values(torch.arange(50)), whole)


def test_evaluation_rows_are_drawn_once_whatever_the_seed_and_way():
    first, second, static = splits("dynamic", 0), splits("dynamic", 1), splits("static", 1)
    assert torch.equal(first.test.values, second.test.values) and torch.equal(first.test.values, static.test.values)
    assert torch.equal(second.val.values, static.val.values) and torch.equal(second.train.values, static.train.values)
    by_id = dict(zip(first.train.ids.tolist(), first.train.values, strict=True))
    both = [(by_id[i], row) for i, row in zip(second.train.ids.tolist(), second.train.values, strict=True) if i in by_id]
    assert len(both) > 1000 and all(torch.equal(*pair) for pair in both)
    assert first.val.chances is None and first.test.chances is None and static.train.chances is None
    assert first.train.digest() != splits("static").train.digest()


def test_its_space_is_binary_and_training_sees_another_draw_each_epoch():
    data = FlowDataModule(Digits(batch_size=100, binary="dynamic"), seed=0)
    assert data.space.levels == 2
    x, _, index, _ = data.first_batch()
    assert not torch.equal(x, data.splits.train.values[index]) and x.max() == 1
    rows, _, index, _ = data.some_rows(40)
    assert torch.equal(rows, data.splits.train.values[index])


def test_black_and_white_files_stay_as_they_are(tmp_path):
    """Larochelle's fixed binary digits enter as 0 and 255."""
    fixed = (np.random.default_rng(0).random((30, 4, 4)) < 0.5).astype(np.uint8)
    np.savez(tmp_path / "rows.npz", images=255 * fixed)
    split = Npz(path=str(tmp_path / "rows.npz"), batch_size=5, binary="static").load(0).train
    assert torch.equal(split.values[:, 0], torch.from_numpy(fixed)[split.ids])


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (lambda: Digits(batch_size=1, binary="often"), "data.binary=often is none of static and dynamic"),
        (lambda: Moons(noise=0.1, batch_size=1, binary="static"), "data.binary=static draws integers"),
    ],
)
def test_what_cannot_be_drawn_is_refused(source, sentence):
    with pytest.raises(Refused, match=sentence):
        source()
