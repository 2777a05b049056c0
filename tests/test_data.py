"""Data: every set gives disjoint splits of the right values, and says in one sentence what it cannot read."""

import os
import struct
import zlib
from hashlib import sha256
from io import BytesIO
from math import log, pi
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from omegaconf import OmegaConf
from PIL import Image

from laminar.config.recipe import build
from laminar.data.bsds300 import BSDS300
from laminar.data.celeba import CelebA
from laminar.data.cifar10 import CIFAR10
from laminar.data.digits import Digits
from laminar.data.image_files import pixels, read_image
from laminar.data.image_folder import ImageFolder
from laminar.data.line import Integers1D
from laminar.data.nothing import Nothing
from laminar.data.npz import Npz
from laminar.data.picture import Picture
from laminar.data.source import Source, Split, Splits
from laminar.data.table import Table
from laminar.data.torchvision_set import SETS, TorchvisionSet
from laminar.data.toys import Checkerboard, Circles, EightGaussians, Moons, Pinwheel, Spirals
from laminar.data.uci import Power
from laminar.refused import Refused

CONF = Path(__file__).parents[1] / "conf"
TOYS = [Moons, Circles, Pinwheel, EightGaussians, Spirals, Checkerboard, Picture]


def real(*parts):
    """A folder of real data, or a skipped test."""
    root = Path(os.environ.get("LAMINAR_DATA", "data"))
    if not root.joinpath(*parts).exists():
        pytest.skip(f"{'/'.join(parts)} is not in LAMINAR_DATA")
    return str(root)


class Numbers(Source):
    """256 one-pixel images holding 0 to 255, all for training."""

    def read(self):
        return Splits(Split.whole(torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1)), None, None)


class Greedy(Source):
    """A set that no machine holds."""

    def read(self):
        return Splits(Split.whole(torch.from_numpy(np.empty((10**9, 10**9), np.uint8))), None, None)


# -- splits and levels ------------------------------------------------------------------------------------------------


def test_splits_are_disjoint_and_only_the_test_rows_ignore_the_seed():
    first, second = (Numbers(batch_size=1, validation=20).load(seed) for seed in (0, 1))
    assert [len(split) for split in first] == [210, 20, 26]
    assert torch.equal(torch.cat([split.ids for split in first]).sort().values, torch.arange(256))
    assert all(torch.equal(split.values.flatten().long(), split.ids) for split in first)
    assert torch.equal(first.test.ids, second.test.ids)
    assert not torch.equal(first.val.ids, second.val.ids)
    assert torch.equal(first.val.ids, Numbers(batch_size=1, validation=20).load(0).val.ids)


def test_num_bits_keeps_the_highest_bits():
    source = Numbers(batch_size=1, num_bits=3)
    train = source.load(0).train
    assert source.levels == 8 and torch.equal(train.values.flatten().long(), train.ids // 32)


def test_padding_adds_zeros():
    train = Numbers(batch_size=1, pad=1).load(0).train
    assert train.values.shape[1:] == (1, 3, 3)
    assert torch.equal(train.values.flatten(1).sum(1), train.ids) and torch.equal(train.values[:, 0, 1, 1].long(), train.ids)
    with pytest.raises(Refused, match=r"data.pad=2 would surround images of 1 pixels: take at most 1 "):
        Numbers(batch_size=1, pad=2).load(0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Digits(batch_size=1, num_bits=4), "num_bits=4.*17 levels, not a power of two"),
        (lambda: Moons(batch_size=1, num_bits=4), "num_bits=4.*real values"),
        (lambda: Numbers(batch_size=1, num_bits=9), "num_bits=9.*1 to 8 bits"),
        (lambda: Numbers(batch_size=0), "batch_size=0"),
        (lambda: Numbers(batch_size=1, eval_batch_size=0), "eval_batch_size=0"),
        (lambda: Numbers(batch_size=1, shift=1.5), "shift=1.5"),
        (lambda: Numbers(batch_size=1, pad=-1), "pad=-1"),
        (lambda: Moons(batch_size=1, flip=True), "data.flip.*vectors"),
        (lambda: Moons(batch_size=1, test_size=0), "test_size=0"),
        (lambda: Numbers(batch_size=1, validation=0.0).load(0), r"data.validation=0.0 of 230 rows would hold out 0"),
        (lambda: Numbers(batch_size=1, validation=230).load(0), r"data.validation=230 .*1 to 229"),
        (lambda: TorchvisionSet(dataset="MNISTT", root=".", batch_size=1), "data.dataset=MNISTT is none of MNIST"),
        (lambda: ImageFolder(path=".", size=8, channels=2, batch_size=1), "channels=2"),
        (lambda: Numbers(batch_size=1, validation="x"), "data.validation='x' is not .*: it takes a number below"),
        (lambda: Numbers(batch_size=1, validation=True), "data.validation=True is not .*: it takes a number below"),
        (lambda: Numbers(batch_size=1, validation=float("nan")), "data.validation=nan is not .*: it takes a number below"),
        (lambda: Numbers(batch_size=1, validation=-0.1).load(0), "data.validation=-0.1 of 230 rows"),
        (lambda: Numbers(batch_size=1.5), "data.batch_size=1.5 is not .*: it takes a whole number"),
        (lambda: Numbers(batch_size=None), "data.batch_size=null is not .*: it takes a whole number"),
        (lambda: Numbers(batch_size=2**64), "data.batch_size=18446744073709551616 is not .*: it takes a whole number"),
        (
            lambda: Numbers(batch_size=1, num_bits="5"),
            "data.num_bits='5' is not what the option holds: it takes a whole number below 2.63 or null",
        ),
        (lambda: Numbers(batch_size=1, flip=1), "data.flip=1 is not .*: it takes true or false"),
        (lambda: Numbers(batch_size=1, shift=float("inf")), "data.shift=inf is not .*: it takes a number below"),
        (lambda: Numbers(batch_size=1, pad=200).load(0), "data.pad=200 would surround images of 1 pixels"),
        (lambda: Numbers(batch_size=1, pads=2), "data.pads is no option of Numbers: it takes batch_size, binary,"),
        (lambda: Integers1D(batch_size=1, pad=1).load(0), "data.pad are for images"),
        (
            lambda: Integers1D(batch_size=1, probabilities=[0.5, "x"]),
            r"data.probabilities=\[0.5, 'x'\] is not .* it takes a list, each entry a number below",
        ),
        (lambda: Moons(batch_size=1, noise="x"), "data.noise='x' is not .*: it takes a number below"),
        (lambda: Moons(batch_size=1, train_size=10**13).load(0), "data.train_size=10000000000000 .* GiB of memory"),
        (lambda: Nothing(batch_size=1, dims=10**15), "data.dims=1000000000000000 is no event: take 1 to 1,048,576"),
        (lambda: Greedy(batch_size=1).load(0), "Greedy needs more memory than there is"),
        (lambda: Pinwheel(batch_size=1, arms=0), "data.arms=0"),
        (lambda: Pinwheel(batch_size=1, radial=1e5).load(0), "Pinwheel draws values that are not finite"),
        (lambda: BSDS300(batch_size=1, root=".", train_size=10**12), "1,000,000,300,000 patches would take"),
        (lambda: CelebA(batch_size=1, root=".", size=0), "data.size=0"),
        (lambda: ImageFolder(path=3, size=8, batch_size=1), "data.path=3 is not .*: it takes text"),
        (
            lambda: Table(path="x.csv", levels={"a": "b"}, batch_size=1),
            r"data.levels=\{'a': 'b'\} is not .*: it takes names, each with a whole number .* a list, each entry text",
        ),
        (
            lambda: Table(path="x.csv", context="a", batch_size=1),
            "data.context='a' is not .*: it takes a list, each entry text or a whole .* or null",
        ),
    ],
)
def test_options_that_cannot_work_are_refused(make, message):
    with pytest.raises(Refused, match=message):
        make()


def test_digits():
    splits = Digits(batch_size=128).load(seed=0)
    assert [len(split) for split in splits] == [1293, 144, 360]
    assert torch.equal(torch.cat([split.ids for split in splits]).sort().values, torch.arange(1797))
    values = torch.cat([split.values for split in splits])
    assert values.dtype == torch.uint8 and values.min() == 0 and values.max() == 16
    per_class = torch.bincount(splits.test.labels)
    assert len(per_class) == 10 and per_class.min() >= 34 and per_class.max() <= 37


# -- densities of the plane -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("toy", TOYS)
def test_a_toy_is_drawn_once_for_all_seeds(toy):
    first, second = (toy(batch_size=1, train_size=200, test_size=100, validation=50).load(seed) for seed in (0, 1))
    assert [split.values.shape for split in first] == [(150, 2), (50, 2), (100, 2)]
    assert first.test.values.dtype == torch.float32 and first.test.values.isfinite().all()
    assert torch.equal(first.test.values, second.test.values)
    assert not torch.isin(first.test.values[:, 0], first.train.values[:, 0]).any()


@pytest.mark.parametrize("toy", [EightGaussians, Checkerboard, Picture])
def test_a_known_density_integrates_to_one_and_fits_its_rows(toy):
    source = toy(batch_size=1, test_size=20_000)
    step = 10 / 640
    line = torch.arange(-5 + step / 2, 5, step, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    density = source.log_prob(grid).exp()
    assert float(density.sum() * step**2) == pytest.approx(1, abs=1e-3)
    # A chi-square test of the rows against the density's mass in unit squares, and the entropy both ways.
    rows = source.read().test.values.double()
    cells = (rows.floor() + 5).long() @ torch.tensor([10, 1])
    mass = density.view(10, 64, 10, 64).sum((1, 3)).flatten() * step**2
    counts = torch.bincount(cells, minlength=100)
    assert not counts[mass == 0].any()
    expected = (mass * len(rows))[mass * len(rows) > 5]
    chi_square = ((counts[mass * len(rows) > 5] - expected) ** 2 / expected).sum()
    assert chi_square < len(expected) + 5 * (2 * len(expected)) ** 0.5
    surprise = -source.log_prob(rows)
    entropy = -(density * density.log()).nan_to_num(0).sum() * step**2
    assert float(surprise.mean()) == pytest.approx(float(entropy), abs=5 * float(surprise.std()) / len(rows) ** 0.5 + 2e-3)


def test_checkerboard_has_its_entropy():
    assert torch.allclose(Checkerboard(batch_size=1).log_prob(torch.tensor([[-3.0, -3.0]])), torch.tensor(-log(32)))
    assert torch.isinf(Checkerboard(batch_size=1).log_prob(torch.tensor([[-3.0, -1.0], [5.0, 5.0]]))).all()


def test_shapes_without_noise_lie_on_their_curves():
    x = Moons(noise=1e-7, batch_size=1).read().test.values
    upper, lower = (x.norm(dim=1) - 1).abs() < 1e-5, ((x - torch.tensor([1.0, 0.5])).norm(dim=1) - 1).abs() < 1e-5
    assert (upper | lower).all() and 0.45 < upper.float().mean() < 0.55
    radius = Circles(noise=1e-7, batch_size=1).read().test.values.norm(dim=1)
    assert (((radius - 3).abs() < 1e-5) | ((radius - 1.5).abs() < 1e-5)).all()
    x = Pinwheel(rate=0.0, radial=1e-7, tangential=1e-7, batch_size=1).read().test.values
    assert len(torch.unique(torch.atan2(x[:, 1], x[:, 0]).div(2 * pi / 5).round())) == 5
    assert torch.allclose(x.norm(dim=1), torch.tensor(2.0))


def test_picture_reads_grey_levels(tmp_path):
    Image.fromarray(np.array([[255, 0], [255, 127], [255, 255]], np.uint8)).save(tmp_path / "ink.png")
    source = Picture(path=str(tmp_path / "ink.png"), batch_size=1)
    side = 8 / 3
    share = torch.tensor([255 / 383, 128 / 383])
    points = torch.tensor([[side / 2, side], [side / 2, 0.0], [-side / 2, 0.0], [side / 2, -side], [0.1, 4.5]])
    expected = [*(share / side**2).log().tolist(), *[-float("inf")] * 3]
    assert source.log_prob(points).tolist() == pytest.approx(expected, rel=1e-5)
    inverted = Picture(path=str(tmp_path / "ink.png"), invert=True, batch_size=1)
    assert torch.isinf(inverted.log_prob(points)).tolist() == [True, False, False, False, True]
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(Refused, match=r"data.path=.*broken.png cannot be read as an image"):
        Picture(path=str(tmp_path / "broken.png"), batch_size=1)
    Image.new("L", (4, 4), 255).save(tmp_path / "white.png")
    with pytest.raises(Refused, match="no ink"):
        Picture(path=str(tmp_path / "white.png"), batch_size=1)


# -- files ------------------------------------------------------------------------------------------------------------


def idx_files(root, name, train, test):
    """A small set in the layout of torchvision's MNIST."""
    folder = Path(root) / name / "raw"
    folder.mkdir(parents=True)
    for split, images in (("train", train), ("t10k", test)):
        labels = (np.arange(len(images)) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
            (folder / f"{split}-{kind}-ubyte").write_bytes(header + array.tobytes())
    return folder


def test_torchvision_sets_read_their_files(tmp_path):
    rng = np.random.default_rng(0)
    train, test = rng.integers(0, 256, (30, 28, 28), np.uint8), rng.integers(0, 256, (7, 28, 28), np.uint8)
    folder = idx_files(tmp_path, "FashionMNIST", train, test)
    source = TorchvisionSet(dataset="FashionMNIST", root=str(tmp_path), download=False, batch_size=1)
    splits = source.load(0)
    assert [len(split) for split in splits] == [27, 3, 7] and source.name == "FashionMNIST" and source.classes == 10
    assert torch.equal(splits.test.values[:, 0], torch.from_numpy(test))
    assert torch.equal(splits.train.values[:, 0], torch.from_numpy(train)[splits.train.ids])
    assert torch.equal(splits.train.labels, splits.train.ids % 10)
    images = folder / "t10k-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:1000])
    with pytest.raises(Refused, match=r"FashionMNIST cannot be read from data.root=.*FashionMNIST/raw.*damaged"):
        source.load(0)


def test_without_a_root_the_data_lie_where_this_machine_says(tmp_path, monkeypatch):
    images = np.arange(2 * 784, dtype=np.uint8).reshape(2, 28, 28)
    for name in ("one", "other"):
        idx_files(tmp_path / name, "FashionMNIST", images, images)
        monkeypatch.setenv("LAMINAR_DATA", str(tmp_path / name))
        source = TorchvisionSet(dataset="FashionMNIST", download=False, batch_size=1)
        assert source.root == str(tmp_path / name) and len(source.read().train) == 2
    monkeypatch.delenv("LAMINAR_DATA")
    assert CelebA(batch_size=1).folder == Path("data/celeba") and CIFAR10(batch_size=1).root == "data"
    assert Power(batch_size=1).place == Path("data/power") and BSDS300(batch_size=1).folder == Path("data/bsds300")


@pytest.mark.parametrize("dataset", SETS)
def test_a_missing_set_says_what_to_put_where(tmp_path, dataset):
    source = TorchvisionSet(dataset=dataset, root=str(tmp_path), download=False, batch_size=1)
    with pytest.raises(Refused) as refusal:
        source.load(0)
    assert str(tmp_path) in str(refusal.value) and SETS[dataset][-1] in str(refusal.value)
    assert "\n" not in str(refusal.value)


def sheet_file(path, images, labels):
    sheets = []
    for start in range(0, len(images), 100):
        rows = images[start : start + 100].reshape(10, 10, 32, 32, 3).transpose(0, 2, 1, 3, 4).reshape(320, 320, 3)
        out = BytesIO()
        Image.fromarray(rows).save(out, "WEBP", lossless=True)
        sheets.append(np.frombuffer(out.getvalue(), np.uint8))
    offsets = np.cumsum([0, *map(len, sheets)])
    np.savez(path, webp=np.concatenate(sheets), offsets=offsets, labels=labels.astype(np.uint8))


def test_cifar10_reads_sheets(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (500, 32, 32, 3), np.uint8)
    labels = np.arange(500) % 10
    folder = tmp_path / "cifar10"
    folder.mkdir()
    for name, rows in (("train-00", slice(0, 200)), ("train-01", slice(200, 400)), ("test-00", slice(400, 500))):
        sheet_file(folder / f"{name}.npz", images[rows], labels[rows])
    source = CIFAR10(root=str(tmp_path), batch_size=1)
    train, _, test = source.read()
    assert torch.equal(train.values, torch.from_numpy(images[:400]).permute(0, 3, 1, 2))
    assert torch.equal(test.values, torch.from_numpy(images[400:]).permute(0, 3, 1, 2))
    assert torch.equal(torch.cat([train.labels, test.labels]), torch.from_numpy(labels))
    sheet_file(folder / "train-01.npz", images[:100], labels[:50])
    with pytest.raises(Refused, match=r"train-01.npz holds 100 images and 50 labels"):
        source.read()
    (folder / "train-01.npz").write_bytes((folder / "train-00.npz").read_bytes()[:5000])
    with pytest.raises(Refused, match=r"train-01.npz is damaged"):
        source.read()
    (folder / "test-00.npz").unlink()
    (folder / "train-01.npz").unlink()
    with pytest.raises(Refused, match=r"no test sheets: put cifar10/test-00.npz"):
        source.read()


def test_celeba_is_cropped_and_scaled(tmp_path):
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    for number, part in enumerate("0012"):
        image = np.zeros((218, 178, 3), np.uint8)
        image[40:188, 15:163] = 50 * (number + 1)
        Image.fromarray(image).save(folder / "img_align_celeba" / f"{number}.png")
        with (folder / "list_eval_partition.txt").open("a") as lines:
            lines.write(f"{number}.png {part}\n")
    splits = CelebA(root=str(tmp_path), download=False, batch_size=1).load(0)
    assert [split.values.shape for split in splits] == [(2, 3, 64, 64), (1, 3, 64, 64), (1, 3, 64, 64)]
    assert [torch.unique(split.values).tolist() for split in splits] == [[50, 100], [150], [200]]
    with pytest.raises(Refused, match=r"put celeba/img_align_celeba"):
        CelebA(root=str(tmp_path / "nothing"), download=False, batch_size=1).load(0)


def test_image_folder(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 8, 8, 3), np.uint8)
    for number, image in enumerate(images):
        folder = tmp_path / "deep" if number % 2 else tmp_path / "deep" / "er"
        Image.fromarray(image).save(folder / f"{number:02}.png")
    (tmp_path / "notes.txt").write_text("no image")
    splits = ImageFolder(path=str(tmp_path), size=8, batch_size=1).load(0)
    assert [len(split) for split in splits] == [16, 2, 2]
    expected = {image.transpose(2, 0, 1).tobytes() for image in images}
    assert {image.numpy().tobytes() for split in splits for image in split.values} == expected
    grey = ImageFolder(path=str(tmp_path), size=4, channels=1, batch_size=1).load(0)
    assert grey.train.values.shape == (16, 1, 4, 4)
    (tmp_path / "deep" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    with pytest.raises(Refused, match=r"broken.jpg cannot be read as an image"):
        ImageFolder(path=str(tmp_path), size=8, batch_size=1).load(0)


def test_image_folder_with_its_own_splits(tmp_path):
    for split, shade in (("train", 10), ("val", 20), ("test", 30)):
        (tmp_path / split).mkdir()
        Image.new("L", (12, 6), shade).save(tmp_path / split / "one.png")
    splits = ImageFolder(path=str(tmp_path), size=6, channels=1, batch_size=1).load(0)
    assert [torch.unique(split.values).tolist() for split in splits] == [[10], [20], [30]]


def test_image_folder_missing_or_empty(tmp_path):
    with pytest.raises(Refused, match=r"data.path=.*nowhere is not a folder"):
        ImageFolder(path=str(tmp_path / "nowhere"), size=8, batch_size=1).load(0)
    with pytest.raises(Refused, match=r"no image lies below"):
        ImageFolder(path=str(tmp_path), size=8, batch_size=1).load(0)


def test_npz(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3), np.uint8)
    np.savez(tmp_path / "train.npz", images=images, labels=np.arange(40) % 4)
    np.savez(tmp_path / "test.npz", images=images[:5], labels=np.arange(5))
    source = Npz(path=str(tmp_path / "train.npz"), test_path=str(tmp_path / "test.npz"), batch_size=1)
    splits = source.load(0)
    assert [len(split) for split in splits] == [36, 4, 5] and source.classes == 5
    assert torch.equal(splits.train.values, torch.from_numpy(images).permute(0, 3, 1, 2)[splits.train.ids])
    np.savez(tmp_path / "grey.npz", images=images[..., 0])
    splits = Npz(path=str(tmp_path / "grey.npz"), batch_size=1).load(0)
    assert splits.train.values.shape == (32, 1, 6, 5) and splits.train.labels is None
    with pytest.raises(Refused, match="differ in image shape or in having labels"):
        Npz(path=str(tmp_path / "train.npz"), test_path=str(tmp_path / "grey.npz"), batch_size=1).load(0)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((4, 2, 2, 3))}, r"'images' in .*bad.npz is float64 .*uint8 of shape"),
        ({"images": np.zeros((4, 12), np.uint8)}, r"'images' in .*bad.npz is uint8 of shape \(4, 12\)"),
        ({"images": np.zeros((4, 3, 8, 8), np.uint8)}, r"of shape \(4, 3, 8, 8\): it needs .*\(N, H, W, C\)"),
        ({"images": np.zeros((0, 8, 8), np.uint8)}, r"of shape \(0, 8, 8\)"),
        ({"pictures": np.zeros((4, 2, 2), np.uint8)}, r"bad.npz holds no key 'images'"),
        ({"images": np.zeros((4, 2, 2), np.uint8), "labels": np.zeros(4)}, r"'labels' in .*is float64.*\(4,\)"),
        ({"images": np.zeros((4, 2, 2), np.uint8), "labels": np.zeros(3, int)}, r"'labels' .* of shape \(3,\)"),
        ({"images": np.zeros((4, 2, 2), np.uint8), "labels": np.full(4, -1)}, r"from 0 up"),
    ],
)
def test_npz_of_another_form_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(Refused, match=message):
        Npz(path=str(tmp_path / "bad.npz"), batch_size=1).load(0)


def test_npz_missing_or_truncated(tmp_path):
    with pytest.raises(Refused, match=r"none.npz does not exist"):
        Npz(path=str(tmp_path / "none.npz"), batch_size=1).load(0)
    np.savez(tmp_path / "whole.npz", images=np.zeros((40, 8, 8), np.uint8))
    (tmp_path / "part.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:500])
    with pytest.raises(Refused, match=r"part.npz cannot be read as an .npz file"):
        Npz(path=str(tmp_path / "part.npz"), batch_size=1).load(0)


# -- image files: as what they are read -----------------------------------------------------------------------------------


def deep_png(path, channels):
    """A 16-bit PNG of 2x2 pixels, which Pillow writes in grey alone."""
    rows = np.arange(4 * channels).reshape(2, 2 * channels).astype(">u2")
    header = struct.pack(">IIBBBBB", 2, 2, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    parts = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    chunks = (struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part)) for name, part in parts)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


DEEP = {
    "grey.png": lambda path: deep_png(path, 1),
    "grey_alpha.png": lambda path: deep_png(path, 2),
    "rgb.png": lambda path: deep_png(path, 3),
    "rgb_alpha.png": lambda path: deep_png(path, 4),
    "short.tif": lambda path: Image.new("I;16", (2, 2)).save(path),
    "other_end.tif": lambda path: Image.new("I;16B", (2, 2)).save(path),
    "long.tif": lambda path: Image.new("I", (2, 2)).save(path),
    "real.tiff": lambda path: Image.new("F", (2, 2)).save(path),
    "wide.ppm": lambda path: path.write_bytes(b"P6 2 2 1023\n" + bytes(24)),
    "plain.ppm": lambda path: path.write_text("P3 1 1 65535\n 1 2 3\n"),
    "wide.pgm": lambda path: path.write_bytes(b"P5 2 2 65535\n" + bytes(8)),
}


@pytest.mark.parametrize("name", DEEP)
def test_more_than_8_bits_a_channel_are_refused(tmp_path, name):
    DEEP[name](tmp_path / name)
    with pytest.raises(Refused, match=f"{name} has more than 8 bits a channel: write it with 8"):
        ImageFolder(path=str(tmp_path), size=2, batch_size=1).load(0)


def red(mode, **options):
    return Image.new("RGBA", (1, 1), (255, 0, 0, options.pop("alpha", 255))).convert(mode, **options)


FLAT = {  # what is in a file -> its one pixel in RGB
    "1": (Image.new("1", (1, 1), 1), (255, 255, 255)),
    "L": (Image.new("L", (1, 1), 7), (7, 7, 7)),
    "P": (red("RGB").convert("P", palette=Image.Palette.ADAPTIVE), (255, 0, 0)),
    "RGBA": (red("RGBA"), (255, 0, 0)),
    "RGBA, unseen": (red("RGBA", alpha=0), (255, 255, 255)),
    "RGBA, a fifth": (red("RGBA", alpha=51), (255, 204, 204)),
    "LA, unseen": (Image.new("LA", (1, 1), (0, 0)), (255, 255, 255)),
    "LA": (Image.new("LA", (1, 1), (9, 255)), (9, 9, 9)),
    "CMYK": (Image.new("CMYK", (1, 1), (0, 255, 255, 0)), (255, 0, 0)),
}


@pytest.mark.parametrize("kind", FLAT)
def test_images_of_8_bits_are_read_by_a_rule(tmp_path, kind):
    image, expected = FLAT[kind]
    file = tmp_path / ("a.tif" if kind == "CMYK" else "a.png")
    image.save(file)
    assert read_image(file, "RGB", pixels).flatten().tolist() == [*expected]
    grey = read_image(file, "L", pixels)
    assert grey.shape == (1, 1, 1) and (len(set(expected)) > 1 or grey.item() == expected[0])


def test_a_palette_with_a_transparent_entry_lies_over_white(tmp_path):
    Image.new("P", (2, 1), 0).save(tmp_path / "a.png", transparency=0)
    assert read_image(tmp_path / "a.png", "RGB", pixels).unique().tolist() == [255]


@pytest.mark.parametrize("turn", range(1, 9))
def test_images_are_turned_as_exif_says(tmp_path, turn):
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40)
    exif = Image.Exif()
    exif[0x0112] = turn
    image.save(tmp_path / "a.png", exif=exif)
    rows = np.asarray(image)
    expected = [rows, rows[:, ::-1], rows[::-1, ::-1], rows[::-1], rows.T, rows[::-1].T, rows[::-1, ::-1].T, rows[:, ::-1].T]
    assert read_image(tmp_path / "a.png", "L", pixels)[0].tolist() == expected[turn - 1].tolist()


def test_what_is_no_file_is_never_waited_for(tmp_path):
    folder = tmp_path / "folder.png"
    folder.mkdir()
    for number in range(20):
        Image.new("L", (2, 2), number).save(folder / f"{number}.png")
    assert len(ImageFolder(path=str(tmp_path), size=2, batch_size=1).load(0).train) == 16  # walked into, as any folder
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(Refused, match=r"pipe.png is a folder, a pipe or a device, and no image: remove it"):
        ImageFolder(path=str(tmp_path), size=2, batch_size=1).load(0)
    for path in (tmp_path / "pipe.png", "/dev/zero"):
        with pytest.raises(Refused, match=r"data.path=.* is a folder, a pipe or a device"):
            Picture(path=str(path), batch_size=1)
        with pytest.raises(Refused, match=r"cannot be read as an .npz file \(a folder, a pipe or a device\)"):
            Npz(path=str(path), batch_size=1).load(0)


def test_images_that_end_early_or_never(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for suffix in ("png", "jpg", "webp", "bmp", "tif", "gif"):
        whole, part = tmp_path / f"whole.{suffix}", tmp_path / f"part.{suffix}"
        Image.fromarray(noise).save(whole)
        part.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        with pytest.raises(Refused, match=rf"part.{suffix} cannot be read as an image \(.*\): repair or remove it"):
            read_image(part, "RGB", pixels)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(Refused, match=r"whole.png cannot be read as an image \(Image size \(4096 pixels\) exceeds"):
        read_image(tmp_path / "whole.png", "RGB", pixels)
    with pytest.raises(Refused, match=r"12 images of data.size=1000000 would take .* GiB of memory"):
        ImageFolder(path=str(tmp_path), size=10**6, batch_size=1).load(0)


# -- arrays: labels and sizes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [0, 1, 2, 10**9],
            "'labels' in .* run from 0 to 1000000000: it needs class numbers from 0 up, below 65,536; np.unique",
        ),
        ([0, 1, 2, 65_536], "run from 0 to 65536"),
        ([0, 1, 2, -1], "run from -1 to 2"),
        (np.array([0, 1, 2, 2**63 + 5], np.uint64), "run from 0 to 9223372036854775813"),
        ([0, 1, 2, 0.5], "is float64"),
        ([0, 1, 2, np.nan], "is float64"),
        ([True, False, True, True], "is bool"),
        (["a", "b", "c", "d"], "is <U1"),
    ],
)
def test_labels_are_class_numbers(tmp_path, labels, message):
    np.savez(tmp_path / "a.npz", images=np.zeros((4, 2, 2), np.uint8), labels=np.array(labels))
    with pytest.raises(Refused, match=message):
        Npz(path=str(tmp_path / "a.npz"), batch_size=1).load(0)


def test_labels_outside_a_sets_classes_are_refused():
    class Odd(Digits):
        classes = 9

    with pytest.raises(Refused, match="Odd has labels outside its classes 0 to 8: replace its damaged file"):
        Odd(batch_size=1).load(0)


def test_a_file_that_unpacks_to_more_than_there_is_stays_packed(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((4000, 32, 32), np.uint8))
    assert (tmp_path / "a.npz").stat().st_size < 10_000
    monkeypatch.setattr("laminar.data.memory.available", lambda: 4 * 2**20)
    monkeypatch.setattr(np, "load", None)
    with pytest.raises(
        Refused, match=r"a.npz unpacked would take 0.0 GiB of memory, and 0.0 GiB are available: give fewer rows"
    ):
        Npz(path=str(tmp_path / "a.npz"), batch_size=1).load(0)


def test_a_header_that_says_more_than_a_file_has_takes_no_memory(tmp_path):
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**12, 32, 32)})
    with ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("images.npy", header.getvalue() + bytes(100))
    with pytest.raises(Refused, match=r"cannot be read as an .npz file \(images.npy says that it has 1024000000000000 bytes"):
        Npz(path=str(tmp_path / "a.npz"), batch_size=1).load(0)


def test_objects_are_never_unpacked(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(Refused, match=r"images.npy holds Python objects"):
        Npz(path=str(tmp_path / "a.npz"), batch_size=1).load(0)


# -- pages ------------------------------------------------------------------------------------------------------------


def page_of(page, path):
    """A page's options, with a path where it asks for one."""
    config = OmegaConf.load(CONF / "data" / f"{page}.yaml")
    varied = [name for name in config.pop("defaults", []) if isinstance(name, str) and name != "_self_"]
    config = OmegaConf.merge(*(OmegaConf.load(CONF / "data" / f"{name}.yaml") for name in varied), config)
    for option, value in {"path": str(path), "size": 8}.items():
        if OmegaConf.is_missing(config, option):
            config[option] = value
    return config


@pytest.mark.parametrize("page", sorted(path.stem for path in (CONF / "data").glob("*.yaml")))
def test_every_page_builds_a_source(page, tmp_path):
    source = build(page_of(page, tmp_path), "data")
    assert isinstance(source, Source) and type(source).__module__.startswith("laminar.data.")


@pytest.mark.parametrize(("page", "dequantization"), [("digits", "uniform.Uniform"), ("moons", "none.Reals")])
def test_real_valued_sets_take_neither_dequantization_nor_preprocessing(tmp_path, page, dequantization):
    (tmp_path / "primary.yaml").write_text(
        f"hydra: {{searchpath: ['file://{CONF}']}}\n"
        f"defaults: [_self_, {{dequantization: uniform}}, {{preprocessing: affine}}, "
        f"{{observation: bernoulli}}, {{data: {page}}}]"
    )
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        config = compose("primary")
    assert config.dequantization._target_.endswith(dequantization)
    assert (config.preprocessing is None or "none" in str(config.preprocessing)) == (page == "moons")


WRONG = ("x", True, -1, 0, float("nan"), 1e5, 10**400)
FEW = {"train_size": 40, "val_size": 20, "test_size": 20, "batch_size": 4, "root": "/nowhere", "download": False}


@pytest.mark.parametrize("page", sorted({path.stem for path in (CONF / "data").glob("*.yaml")} - {"digits", "digits_binary"}))
def test_an_option_of_a_wrong_kind_or_size_is_a_sentence(page, tmp_path):
    config = OmegaConf.to_container(page_of(page, tmp_path), resolve=True)
    source = get_class(config.pop("_target_"))
    config |= {name: value for name, value in FEW.items() if name in config}
    for option in {*config, "pad", "shift", "num_bits"}:
        for wrong in WRONG:
            try:
                source(**{**config, option: wrong}).load(0)
            except Refused as refusal:
                assert "\n" not in str(refusal)


# -- real files, where they are ---------------------------------------------------------------------------------------


def test_the_real_mnist():
    train, val, test = TorchvisionSet(dataset="MNIST", root=real("MNIST", "raw"), download=False, batch_size=1).load(0)
    assert (len(train), len(val), len(test)) == (54_000, 6_000, 10_000)
    values = torch.cat([train.values, val.values]).double() / 255
    assert float(values.mean()) == pytest.approx(0.1307, abs=5e-5)
    assert float(values.std()) == pytest.approx(0.3081, abs=5e-5)
    assert torch.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_the_real_cifar10_sheets():
    source = CIFAR10(root=real("cifar10", "test-00.npz"), download=False, batch_size=1)
    test = source._sheets(Path(source.root) / "cifar10", "test")
    digest = sha256(test.values.permute(0, 2, 3, 1).contiguous().numpy()).hexdigest()
    assert digest == "5e95d80e3dfe4bb1a000e1cf5ac7b525f879a717183ac9f777f658f0da49b232"
    assert torch.bincount(test.labels).tolist() == [1000] * 10
