"""Doors: a run is trained once; then it is scored, drawn from, and its pictures are looked at."""

import json
import re
import subprocess
import sys
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from engine import prepared
from PIL import Image

from laminar.config.pages import compose
from laminar.flows import noise
from laminar.flows.numerics import bits_per_dim
from laminar.refused import Refused
from laminar.runs import evaluate, sample
from laminar.runs.open import open_data
from laminar.runs.run import run
from laminar.training.checkpoint import load
from laminar.training.logger.csv import read

QUICK = ("callbacks=default", "trainer.max_steps=24", "trainer.val_check_interval=12", "trainer.log_every_n_steps=1")


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """A class-conditional Glow of two levels on digits."""
    folder = tmp_path_factory.mktemp("digits")
    words = ("flow=glow", "context=label", "size.width=8", "size.steps=1", "size.levels=2", "seed=3")
    run(prepared(folder, *QUICK, *words), folder)
    return folder


@pytest.fixture(scope="session")
def moons(tmp_path_factory) -> Path:
    """An exact flow of the plane."""
    folder = tmp_path_factory.mktemp("moons")
    words = ("data=moons", "data.train_size=1000", "data.validation=200", "data.test_size=300", "data.batch_size=200")
    run(prepared(folder, *QUICK, *words, "size.width=16", "size.depth=1"), folder)
    return folder


def door(name: str, **options):
    return compose(name, [f"{key}={value}" for key, value in options.items()])


def evaluated(folder: Path, name: str, **options) -> dict:
    evaluate.start(door("evaluate", run=folder, device="cpu", **options))
    return json.loads((folder / "evaluations" / f"{name}.json").read_text())


def numbers_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


# -- what a run leaves behind ----------------------------------------------------------------------------------------


def test_a_run_on_images_leaves_its_pictures(digits):
    made = {str(path.relative_to(digits)) for path in digits.rglob("*.png")}
    assert made == {
        "samples/step-0000012.png", "samples/step-0000024.png", "samples/best.png", "samples/temperatures.png",
        "samples/classes.png", "figures/reconstructions.png", "figures/interpolations.png", "figures/bits.png",
        "figures/levels.png", "figures/masks.png", "figures/curves.png",
    }  # fmt: skip
    assert "could not be drawn" not in (digits / "train.log").read_text()
    assert all(min(Image.open(digits / file).size) > 60 for file in made)
    page = (digits / "figures" / "index.html").read_text()
    assert all((file.removeprefix("figures/") if file.startswith("figures") else f"../{file}") in page for file in made)
    assert f"{numbers_of(digits)['test/bpd']:.4f}" in page


def test_a_run_on_the_plane_leaves_its_densities(moons):
    made = {str(path.relative_to(moons)) for path in moons.rglob("*.png")}
    assert {"samples/step-0000012.png", "samples/best.png", "figures/density.png", "figures/curves.png"} <= made


def test_a_run_reports_health_and_throughput(digits, moons):
    for folder, error in ((digits, 0.0), (moons, 1e-4)):
        numbers = numbers_of(folder)
        assert numbers["health/inverse_error"] <= error and numbers["examples_per_second"] > 0
        assert numbers["samples_per_second"] > 0
    assert 0 <= numbers_of(digits)["health/leak"] <= 1 and "health/leak" not in numbers_of(moons)


def test_pictures_do_not_change_a_run(tmp_path):
    quiet = "callbacks=[nonfinite,checkpoints]"
    scores = []
    for name, words in (("quiet", [quiet]), ("loud", [])):
        folder = tmp_path / name
        plain = prepared(folder, *QUICK, "flow=glow", "size.width=8", "size.steps=1", "size.levels=2", "test=false", *words)
        run(plain, folder)
        scores.append([row["train/bpd"] for row in read(folder / "metrics.csv") if row["train/bpd"]])
        assert any(folder.rglob("*.png")) == (name == "loud")
    assert len(scores[0]) == 24 and scores[0] == scores[1]


def test_metrics_csv_holds_every_step(digits):
    rows = read(digits / "metrics.csv")
    assert [row["step"] for row in rows if row["train/bpd"]] == [str(step) for step in range(24)]
    assert sum(bool(row["val/bpd"]) for row in rows) >= 2


# -- laminar-evaluate ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["test", "val"])
def test_one_sample_repeats_the_number_of_the_run(digits, split):
    found, expected = evaluated(digits, f"{split}-K1", split=split, num_samples=1, batch_size=7), numbers_of(digits)
    assert f"evaluation {split}-K1" in (digits / "figures" / "index.html").read_text()
    assert found["bpd"] == pytest.approx(expected[f"{split}/bpd"], rel=1e-5)
    assert found["bpd_se"] == pytest.approx(expected[f"{split}/bpd_se"], rel=1e-3)
    assert found["grade"] == "bound" and found["rows"] == {"test": 360, "val": 144}[split]


def test_more_samples_tighten_the_bound_and_numbers_do_not_depend_on_the_batch(digits):
    many = evaluated(digits, "val-K16", split="val", num_samples=16, accuracy_samples=0)
    again = evaluated(digits, "val-K16", split="val", num_samples=16, accuracy_samples=0, batch_size=50)
    assert many["bpd"] == pytest.approx(again["bpd"], rel=1e-5)
    assert many["bpd"] < many["bpd_K1"]
    assert "accuracy" not in many


def test_the_bound_of_k_samples_by_hand(digits):
    flow, trained = load(digits)
    split = open_data(trained).splits.val
    keys = noise.mix(trained["seed"], 1, 0, range(len(split)))
    with torch.no_grad(), noise.source(keys):
        weights = flow.log_weights(split.values, {"label": split.labels}, 5).double()
    expected = bits_per_dim(weights.exp().mean(0).log(), 64).mean().item()
    found = evaluated(digits, "val-K5", split="val", num_samples=5)
    assert found["bpd"] == pytest.approx(expected, rel=1e-6)


def test_accuracy_by_bayes_rule(digits):
    """Against a loop over examples and classes, with the classes' frequencies as p(y)."""
    flow, trained = load(digits)
    splits = open_data(trained).splits
    counts, split = torch.bincount(splits.train.labels), splits.val.pick(torch.arange(15))
    keys = noise.mix(3, range(15))
    right = []
    for i in range(15):
        joint = []
        for label in range(10):
            with torch.no_grad(), noise.source(keys[i : i + 1]):
                log_prob = flow.log_prob(split.values[i : i + 1], {"label": torch.tensor([label])})
            joint.append(log_prob.item() + log(counts[label] / len(splits.train)))
        right.append(np.argmax(joint) == split.labels[i].item())
    found = evaluate.accuracy(flow, split, keys, 4, counts, 1)
    assert 0 < found["accuracy"] < 1 and found["accuracy"] == pytest.approx(np.mean(right))
    assert found["accuracy_se"] == pytest.approx(np.std(right, ddof=1) / 15**0.5)
    assert 0 < evaluated(digits, "val-K1", split="val", num_samples=1)["accuracy"] < 1


def test_an_exact_flow_needs_no_samples(moons):
    found = evaluated(moons, "test-K1", num_samples=64)
    assert found["grade"] == "exact" and found["num_samples"] == 1
    assert found["nll"] == pytest.approx(numbers_of(moons)["test/nll"], rel=1e-5)


def test_a_checkpoint_is_as_good_as_its_folder(digits):
    best = digits / "checkpoints" / "best.ckpt"
    evaluate.start(door("evaluate", run=best, device="cpu", num_samples=2, split="val"))
    assert (digits / "evaluations" / "val-K2.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "num_samples=0"),
        ({"split": "training"}, "none of train, val, test"),
        ({"device": "tpu"}, "not the name of a device"),
        ({"accuracy_samples": -1}, "negative"),
        ({"data.root": "/nowhere/at/all"}, "data.root=/nowhere/at/all"),
    ],
)
def test_evaluate_refuses_in_a_sentence(digits, options, message):
    with pytest.raises(Refused, match=message):
        evaluate.start(door("evaluate", run=digits, **options))


# -- laminar-sample --------------------------------------------------------------------------------------------------


def sampled(folder: Path, **options) -> None:
    sample.start(door("sample", run=folder, device="cpu", **options))


def test_samples_as_arrays_repeat_and_carry_their_labels(digits, tmp_path):
    for name in ("one", "two"):
        sampled(digits, n=12, temperature=0.8, out=tmp_path / f"{name}.npz")
    one, two = np.load(tmp_path / "one.npz"), np.load(tmp_path / "two.npz")
    assert one["images"].shape == (12, 8, 8, 1) and one["images"].dtype == np.uint8 and one["images"].max() <= 16
    assert (one["images"] == two["images"]).all() and one["labels"].tolist() == [*range(10), 0, 1]
    sampled(digits, n=12, temperature=0.8, seed=1, out=tmp_path / "three.npz")
    assert (one["images"] != np.load(tmp_path / "three.npz")["images"]).any()
    sampled(digits, n=12, temperature=0.4, out=tmp_path / "colder.npz")
    assert (one["images"] != np.load(tmp_path / "colder.npz")["images"]).any()
    sampled(digits, n=3, label=7, out=tmp_path / "four.npz")
    assert np.load(tmp_path / "four.npz")["labels"].tolist() == [7, 7, 7]


def test_samples_go_into_the_run_folder_and_overwrite_nothing(digits, capsys):
    sampled(digits, n=4, temperature=0.7)
    path = digits / "samples" / "sample-n4-t0.7-seed0.png"
    assert path.exists() and str(path) in capsys.readouterr().out
    with pytest.raises(Refused, match="overwrite=true"):
        sampled(digits, n=4, temperature=0.7)
    sampled(digits, n=4, temperature=0.7, overwrite="true")


def test_reconstruct_and_interpolate(digits, tmp_path):
    sampled(digits, mode="reconstruct", n=20, out=tmp_path / "r.npz")
    arrays = np.load(tmp_path / "r.npz")
    assert (arrays["images"] == arrays["originals"]).all() and arrays["images"].shape == (20, 8, 8, 1)
    sampled(digits, mode="interpolate", n=3, steps=5, out=tmp_path / "i.npz")
    lines = np.load(tmp_path / "i.npz")["images"]
    assert lines.shape == (3, 5, 8, 8, 1) and (lines[:, 0] == arrays["originals"][:3]).all()
    for mode in ("reconstruct", "interpolate"):
        sampled(digits, mode=mode, n=3, label=2, out=tmp_path / f"{mode}.png")
        assert Image.open(tmp_path / f"{mode}.png").width > 100


def test_samples_of_the_plane(moons, tmp_path):
    sampled(moons, n=30, out=tmp_path / "s.npz")
    assert np.load(tmp_path / "s.npz")["values"].shape == (30, 2)
    sampled(moons, n=30, out=tmp_path / "s.png")
    assert Image.open(tmp_path / "s.png").width > 600


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n=0"),
        ({"temperature": 0}, "temperature=0"),
        ({"mode": "dream"}, "none of sample, reconstruct, interpolate"),
        ({"label": 10}, "classes 0 to 9"),
        ({"out": "samples.gif"}, "neither .png nor .npz"),
        ({"mode": "interpolate", "n": 181}, "needs 362 examples"),
        ({"mode": "interpolate", "steps": 1}, "steps=1"),
    ],
)
def test_sample_refuses_in_a_sentence(digits, options, message):
    with pytest.raises(Refused, match=message):
        sampled(digits, **options)


def test_a_class_is_not_asked_of_a_flow_without_classes(moons):
    with pytest.raises(Refused, match="knows no classes"):
        sampled(moons, label=1)
    with pytest.raises(Refused, match=r"use a \.npz file"):
        sampled(moons, mode="reconstruct", out="r.png")


def test_a_known_density_is_the_floor(moons):
    """The excess is paired: row by row against the density, on the same rows."""
    flow, config = load(moons)
    data = open_data(config)
    x = data.splits.test.values
    with torch.no_grad():
        excess = (data.source.log_prob(x) - flow.log_prob(x)).double()
    numbers, found = numbers_of(moons), evaluated(moons, "test-K1", num_samples=1)
    for value, error in ((numbers["test/excess"], numbers["test/excess_se"]), (found["excess"], found["excess_se"])):
        assert value == pytest.approx(excess.mean().item(), abs=1e-5)
        assert error == pytest.approx(excess.std().item() / len(x) ** 0.5, rel=1e-4)
    assert numbers["test/excess"] == pytest.approx(numbers["test/nll"] + data.source.log_prob(x).mean().item(), abs=1e-5)


# -- the commands themselves -----------------------------------------------------------------------------------------


def command(module: str, *words: str, cwd: Path) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", f"laminar.commands.{module}", *map(str, words)]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("module", ["train", "evaluate", "sample"])
def test_help_is_quick_and_imports_no_torch(module, tmp_path):
    code = (
        f"import sys; sys.argv = ['laminar-{module}', '--help']\n"
        f"from laminar.commands.{module} import main; main()\n"
        "assert not {'torch', 'pytorch_lightning', 'wandb', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"laminar-{module} " in done.stdout and ("coupling" in done.stdout) == (module == "train")


def test_a_refusal_is_an_exit_status_and_no_traceback(digits, tmp_path):
    done = command("evaluate", f"run={digits}", "num_samples=0", cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "num_samples=0" in done.stderr
    assert not any(tmp_path.iterdir())


def test_a_sweep_ends_with_a_table_of_all_jobs(tmp_path):
    """Two jobs that work, two that are refused: every job has its row, and the sweep does not pass for a success."""
    words = ("flow=realnvp_flat", "size.width=8", "size.steps=2", "trainer.max_steps=2", "trainer.val_check_interval=2")
    words += ("callbacks=[nonfinite,checkpoints]", "logger=csv")
    done = command("train", "-m", *words, "coupling=additive,affine", "data.batch_size=100,99999", cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (sweep,) = tmp_path.glob("outputs/sweeps/default/*")
    assert not [
        log for log in sweep.glob("*/train.log") if "SweepTable" in log.read_text()
    ]  # Hydra logs a fault of its callbacks
    rows = (sweep / "table.md").read_text().splitlines()
    assert rows[0].startswith("| job | coupling | data.batch_size | val bits/dim | test bits/dim |") and "best" in rows[2]
    assert [row.split("|")[3].strip(" *") for row in rows[2:6]] == ["100", "100", "99999", "99999"]
    table = (sweep / "table.csv").read_text().splitlines()
    assert table[1].startswith("0,additive,100,done,") and table[2].startswith("1,additive,99999,failed: Refused:")
    assert "99999" in (sweep / "1" / "failure.txt").read_text() and (sweep / "table.png").stat().st_size > 5000
    assert yaml.safe_load((sweep / "0" / "config.yaml").read_text())["choices"]["coupling"] == "additive"
    assert str(sweep.name) in done.stdout and "±" in done.stdout and "best: laminar-train flow=realnvp_flat" in done.stdout


@pytest.mark.slow
def test_the_readme_adds_a_law_of_your_own(tmp_path):
    """The files and the command of the README, as they stand there."""
    text = (Path(__file__).parents[1] / "README.md").read_text()
    for path, body in re.findall(r"```(?:python|yaml)\n# (\S+/\S+)\n(.*?)```", text, re.DOTALL):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(body)
    (words,) = re.findall(r"laminar-train (--config-dir .*)", text)
    small = ("size.width=8", "size.steps=2", "trainer.max_steps=4", "trainer.val_check_interval=4", "hydra.run.dir=run")
    done = command("train", *words.split(), *small, "callbacks=default", "logger=csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    numbers = numbers_of(tmp_path / "run")
    assert numbers["health/inverse_error"] == 0 and numbers["test/bpd"] < 6
    refused = command("train", *words.replace("allow=[mylaws] ", "").split(), *small, "hydra.run.dir=other", cwd=tmp_path)
    assert refused.returncode == 2 and "allow=" in refused.stderr
    found = command("evaluate", "run=run", "allow=[mylaws]", "num_samples=1", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
