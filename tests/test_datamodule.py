"""FlowDataModule: every batch is served once, in the same order, however the work is shared or interrupted."""

import logging
import warnings
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from laminar.data.batches import EvaluationBatches, Order, Share
from laminar.data.datamodule import FlowDataModule
from laminar.data.digits import Digits
from laminar.data.source import Source, Split, Splits
from laminar.data.toys import Moons
from laminar.refused import Refused


class Ramp(Source):
    """Images whose pixels all hold their row's number, or that count from 0 to 15."""

    def __init__(self, rows=50, counting=False, **serving):
        self.rows, self.counting = rows, counting
        super().__init__(**{"batch_size": 8, "validation": 10, **serving})

    def read(self):
        values = torch.arange(self.rows, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4).contiguous()
        if self.counting:
            values = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4).expand(self.rows, -1, -1, -1).contiguous()
        whole = Split.whole(values)
        return Splits(whole, None, whole)


def trainer_like(rank=0, ranks=1, accumulate=1, position=0):
    progress = SimpleNamespace(total=SimpleNamespace(processed=position))
    return SimpleNamespace(
        world_size=ranks,
        global_rank=rank,
        accumulate_grad_batches=accumulate,
        overfit_batches=0,
        num_training_batches=float("inf"),
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
    )


def served(source, seed=0, **trainer):
    data = FlowDataModule(source, seed=seed)
    data.trainer = trainer_like(**trainer)
    return list(data.train_dataloader())


@pytest.mark.parametrize("moved", [False, True])
def test_digits_are_scikit_learns(moved, monkeypatch):
    if moved:  # their file, in some later version
        monkeypatch.setattr(Path, "exists", lambda path: False)
    images, labels = load_digits(return_X_y=True)
    train, test = train_test_split(np.arange(1797), test_size=360, stratify=labels, random_state=0)
    ours = Digits(batch_size=128).read()
    for split, rows in ((ours.train, np.sort(train)), (ours.test, np.sort(test))):
        assert split.values.dtype == torch.uint8 and split.labels.dtype == torch.int64
        np.testing.assert_array_equal(split.values.flatten(1).numpy(), images[rows])
        np.testing.assert_array_equal(split.labels.numpy(), labels[rows])
        np.testing.assert_array_equal(split.ids.numpy(), rows)


def test_space_and_record():
    data = FlowDataModule(Digits(batch_size=128), seed=3)
    assert data.space.event == (1, 8, 8) and data.levels == data.space.levels == 17
    assert data.space.context == {"label": (10,)}
    record = data.split_record()
    assert record["seed"] == 3 and [record[name]["rows"] for name in ("train", "val", "test")] == [1293, 144, 360]
    other = FlowDataModule(Digits(batch_size=128), seed=4).split_record()
    assert record["test"] == other["test"] and record["train"] != other["train"]
    toy = FlowDataModule(Moons(batch_size=8, train_size=100, test_size=50))
    assert toy.space.event == (2,) and toy.levels is None and not toy.space.context


def test_a_batch():
    data = FlowDataModule(Digits(batch_size=100))
    x, context, index, epoch = next(iter(data.train_dataloader()))
    label = context["label"]
    assert x.dtype == torch.uint8 and x.shape == (100, 1, 8, 8) and label.dtype == index.dtype == torch.int64
    assert epoch == 0 and torch.equal(x, data.splits.train.values[index])
    assert torch.equal(label, data.splits.train.labels[index])
    assert torch.equal(index, data.first_batch()[2])
    unlabelled = next(iter(FlowDataModule(Ramp()).train_dataloader()))
    assert unlabelled[1] == {}


def test_order_is_a_function_of_seed_and_epoch():
    first, again, other = (torch.cat([b[2] for b in served(Ramp(), seed)]) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len(first) == len(first.unique()) == 40
    second = served(Ramp(), position=5)
    assert all(batch[3] == 1 for batch in second)
    assert not torch.equal(first, torch.cat([b[2] for b in second]))


def test_training_drops_the_last_incomplete_step():
    batches = served(Ramp(batch_size=12), accumulate=3)
    assert len(batches) == 9 and {len(batch[2]) for batch in batches} == {4}


@pytest.mark.parametrize(("ranks", "accumulate"), [(2, 1), (1, 4), (2, 2), (8, 1)])
def test_ranks_and_micro_batches_together_are_the_global_batch(ranks, accumulate):
    serving = {"flip": True, "shift": 0.3, "counting": True}
    whole = served(Ramp(**serving))
    shares = [served(Ramp(**serving), rank=rank, ranks=ranks, accumulate=accumulate) for rank in range(ranks)]
    for step, (x, _, index, _) in enumerate(whole):
        parts = [share[step * accumulate + micro] for micro in range(accumulate) for share in shares]
        assert torch.equal(torch.cat([part[2] for part in parts]), index)
        assert torch.equal(torch.cat([part[0] for part in parts]), x)


@pytest.mark.parametrize("position", [1, 3, 5, 7, 12])
def test_serving_begins_at_the_position(position):
    stream = [batch for start in (0, 5, 10) for batch in served(Ramp(), position=start)]
    rest = served(Ramp(), position=position)
    expected = stream[position : (position // 5 + 1) * 5]
    assert [b[3] for b in rest] == [b[3] for b in expected]
    assert all(torch.equal(a[2], b[2]) for a, b in zip(rest, expected, strict=True))


@pytest.mark.parametrize(("rows", "size", "ranks"), [(10, 4, 1), (10, 4, 2), (37, 5, 3), (7, 1, 4), (3, 1, 2), (5, 9, 5)])
def test_evaluation_serves_every_row_once(rows, size, ranks):
    split = Split.whole(torch.arange(rows, dtype=torch.uint8).view(-1, 1))
    loaders = [EvaluationBatches(split, size, Share(trainer_like(rank, ranks))) for rank in range(ranks)]
    assert len({len(loader) for loader in loaders}) == 1
    batches = [batch for loader in loaders for batch in loader]
    index = torch.cat([batch[2] for batch in batches])
    assert torch.equal(index.sort().values, torch.arange(rows))
    assert torch.equal(torch.cat([batch[0] for batch in batches])[:, 0].long(), index)
    assert all(1 <= len(batch[0]) <= max(size, 2) and batch[3] == 0 for batch in batches)


def test_flips_and_shifts_are_those_of_the_image():
    source = Ramp(rows=400, counting=True, flip=True, shift=0.3)
    split = source.read().train
    order = Order(source, split, seed=0, epoch=0)
    moved = order.values(torch.arange(400))
    seen = set()
    for row in range(400):
        flip, (down, right) = bool(order.flip[row]), order.shift[row].tolist()
        image = split.values[row, 0].flip(1) if flip else split.values[row, 0]
        expected = torch.nn.functional.pad(image[None].float(), [1] * 4, "replicate")[0]
        expected = expected[1 - down : 5 - down, 1 - right : 5 - right]
        assert torch.equal(moved[row, 0].float(), expected)
        seen.add((flip, down, right))
    assert len(seen) == 18
    assert not torch.equal(moved, Order(source, split, seed=0, epoch=1).values(torch.arange(400)))


def test_evaluation_is_neither_flipped_nor_shifted():
    data = FlowDataModule(Ramp(counting=True, flip=True, shift=0.3))
    assert all(torch.equal(x, data.splits.val.values[index]) for x, _, index, _ in data.val_dataloader())
    assert sum(len(batch[0]) for batch in data.evaluation("train")) == 40


def test_refusals():
    with pytest.raises(Refused, match=r"batch_size=8.*2 ranks x 3 accumulated batches: take a multiple of 6"):
        served(Ramp(), ranks=2, accumulate=3)
    with pytest.raises(Refused, match=r"batch_size=64 exceeds the 40 training examples"):
        served(Ramp(batch_size=64))
    with pytest.raises(Refused, match=r"1 examples cannot be shared by 2 ranks"):
        EvaluationBatches(Split.whole(torch.zeros(1, 1)), 1, Share(trainer_like(ranks=2)))


class Recorder(pl.LightningModule):
    """Notes which batches it sees, and with which numbers Lightning counts them."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.zeros(())), []

    def training_step(self, batch, batch_idx):
        x, _, index, epoch = batch
        assert isinstance(epoch, int) and index.device.type == "cpu"
        self.seen.append((epoch, batch_idx, tuple(index.tolist())))
        return self.weight * x.float().mean()

    def validation_step(self, batch, batch_idx):
        self.log("loss", batch[0].float().mean(), batch_size=len(batch[0]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class StopAt(pl.Callback):
    """Saves in one hook once ``batches`` have been trained on, and stops there as if killed."""

    def __init__(self, hook, batches, path):
        def save(trainer, module, *_):
            if len(module.seen) == batches and not path.exists():
                trainer.save_checkpoint(path)
                raise KeyboardInterrupt

        setattr(self, hook, save)


def fitted(callbacks=(), ckpt_path=None, source=None, **options):
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        **options,
    )
    module = Recorder()
    with suppress(SystemExit):  # how Lightning ends after a KeyboardInterrupt
        trainer.fit(module, datamodule=FlowDataModule(source or Ramp()), ckpt_path=ckpt_path, weights_only=True)
    return module.seen


RUNS = {
    "epochs": {"max_epochs": 3},
    "steps": {"max_epochs": -1, "max_steps": 15},
    "accumulated": {"max_epochs": 3, "accumulate_grad_batches": 2},
    "limited": {"max_epochs": 3, "limit_train_batches": 4},
}
STOPS = [  # where the run is stopped: a hook, after whole epochs and some more batches
    ("on_train_batch_end", 0, 2),
    ("on_train_batch_end", 1, 0),
    ("on_train_batch_end", 1, 3),
    ("on_validation_end", 0, 2),
    ("on_validation_end", 1, 2),
    ("on_validation_end", 2, 0),
    ("on_train_epoch_end", 2, 0),
]


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(("hook", "epochs", "batches"), STOPS)
def test_a_resumed_run_sees_the_batches_of_an_uninterrupted_one(tmp_path, run, hook, epochs, batches):
    options = RUNS[run] | ({"val_check_interval": 2} if hook == "on_validation_end" and batches else {})
    whole = fitted(**options)
    length = {"accumulated": 10, "limited": 4}.get(run, 5)
    assert [(epoch, number) for epoch, number, _ in whole] == [divmod(n, length) for n in range(3 * length)]
    stop, path = epochs * length + batches, tmp_path / "stopped.ckpt"
    before = fitted([StopAt(hook, stop, path)], **options)
    assert len(before) == stop
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*dataloader is not resumable.*")
        after = fitted(ckpt_path=path, **options)
    assert before + after == whole


def test_resuming_with_another_epoch_length_is_refused(tmp_path):
    path = tmp_path / "stopped.ckpt"
    fitted([StopAt("on_train_batch_end", 2, path)], max_epochs=2)
    with pytest.raises(Refused, match=r"5 batches to an epoch and this run 10"):
        fitted(ckpt_path=path, max_epochs=2, source=Ramp(batch_size=4))
    with pytest.raises(
        Refused, match=r"5 batches .* this run 8, for it was trained on 40 rows and here are 70: give it as many"
    ):
        fitted(ckpt_path=path, max_epochs=2, source=Ramp(rows=80))


def test_overfitting_sees_the_same_batches_each_epoch():
    seen = fitted(max_epochs=2, overfit_batches=2)
    assert [rows for *_, rows in seen[:2]] == [rows for *_, rows in seen[2:]] and seen[2][0] == 1
