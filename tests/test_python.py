"""Laminar from Python: trained flows by their runs, untrained ones by pages, rows as people hold them."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from engine import prepared, run

import laminar
from laminar.flows import noise, rows
from laminar.flows.draw import draw
from laminar.refused import Refused
from laminar.runs.scoring import log_weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("python") / "run"
    run(prepared(folder, "trainer.max_steps=8"), folder)
    return folder


@pytest.fixture(scope="module")
def flow(folder):
    return laminar.load(folder)


@pytest.fixture(scope="module")
def digits():
    return np.random.default_rng(0).integers(0, 17, (300, 1, 8, 8), np.uint8)


def test_the_ten_lines_of_the_readme(folder, digits, tmp_path, monkeypatch):
    text = (Path(__file__).parents[1] / "README.md").read_text()
    (lines,) = re.findall(r"## From Python\n.*?```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", digits)
    words = re.findall(r'"(outputs/[^"]*)"', lines)
    assert words
    names: dict = {}
    exec(lines.replace(words[0], str(folder)), names)
    assert names["flow"].bits_per_dim(digits[:10]).grade == "bound"


def test_a_run_is_a_flow_in_evaluation_mode(flow, folder):
    assert isinstance(flow, laminar.Flow) and not flow.training
    assert laminar.load(str(folder / "checkpoints" / "last.ckpt")).space == flow.space
    with pytest.raises(Refused, match="is not a run folder"):
        laminar.load(folder / "nothing")


def test_rows_come_back_as_they_went(flow, digits):
    array = flow.log_prob(digits)
    assert isinstance(array, np.ndarray) and array.shape == (300,)
    tensor = flow.log_prob(torch.from_numpy(digits))
    assert isinstance(tensor, torch.Tensor) and tensor.requires_grad and tensor.shape == (300,)
    z = flow.encode(digits, mean=True)
    assert isinstance(z, np.ndarray) and z.shape == (300, 64)
    assert (flow.decode(z) == digits).all() and isinstance(flow.decode(z.tolist()), np.ndarray)
    for same in (digits.tolist(), digits.astype(np.int64), digits.astype(np.uint16), digits.astype(np.float64)):
        assert np.array_equal(flow.encode(same, mean=True), z)


def test_any_number_of_rows_passes_a_batch_at_a_time(flow, digits, monkeypatch):
    """Numbers are those of one batch, to rounding."""
    seen = []
    flow.transform.register_forward_pre_hook(lambda part, given: seen.append(len(given[0])))
    whole, z = flow.bits_per_dim(digits), flow.encode(digits, mean=True)
    assert set(seen) == {300}
    seen.clear()
    monkeypatch.setattr(rows, "VALUES", 64 * 70)
    assert flow.bits_per_dim(digits).value == pytest.approx(whole.value, abs=1e-6)
    assert np.allclose(flow.encode(digits, mean=True), z, atol=1e-4)
    assert seen == [70, 70, 70, 70, 20] * 2
    assert flow.sample(150).shape == (150, 1, 8, 8)
    assert flow.log_prob(digits, num_samples=3).shape == (300,)


def test_a_score_is_that_of_an_evaluation(flow, digits):
    """By the same noise: mean, standard error over rows and grade."""
    keys = noise.mix(3, noise.DRAW, np.arange(300))

    class split:
        values, context = torch.from_numpy(digits), None

    with torch.no_grad():
        logs = log_weights(flow, split, slice(0, 300), keys, 4)
    bits = -(logs.logsumexp(0) - np.log(4)) / (64 * np.log(2))
    found = flow.bits_per_dim(digits, num_samples=4, seed=3)
    assert found.value == pytest.approx(bits.mean().item(), rel=2e-7) and found.grade == "bound"
    assert found.standard_error == pytest.approx(bits.std().item() / 300**0.5, rel=1e-6)
    assert flow.nll(digits, num_samples=4, seed=3).value == pytest.approx(found.value * 64 * np.log(2), rel=1e-6)
    assert flow.bits_per_dim(digits, num_samples=4, seed=3) == found != flow.bits_per_dim(digits, num_samples=4, seed=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, 0], r"x has the shape \(300, 8, 8\), and this flow takes n > 0 rows of shape \(1, 8, 8\)"),
        (lambda x: x[:0], r"x has the shape \(0, 1, 8, 8\)"),
        (lambda x: x + 184, r"x holds values from 184 to 200, and this flow knows the integers 0 to 16"),
        (lambda x: x.astype(int) - 1, r"x holds values from -1 to 15"),
        (lambda x: x / 16, r"x holds numbers between the integers that this flow scores 0 to 16: hand it the stored ones"),
        (lambda x: torch.from_numpy(x / 16), "x holds numbers between the integers"),
        (lambda x: np.full(x.shape, np.nan), "x holds numbers between the integers"),
        (lambda x: x.astype(str), "x holds '<U3', and numbers are needed"),
        (lambda x: [[1, 2], [3]], "x is no array of numbers"),
    ],
)
def test_what_would_get_a_number_that_means_nothing_is_refused(flow, digits, change, message):
    for method in (flow.log_prob, flow.encode, flow.bits_per_dim):
        with pytest.raises(Refused, match=message):
            method(change(digits))


def test_noise_of_another_shape_is_refused(flow):
    with pytest.raises(Refused, match=r"z has the shape \(4, 63\) and holds torch.float64"):
        flow.decode(np.zeros((4, 63)))
    with pytest.raises(Refused, match=r"holds torch\.int64: rows of noise are real numbers"):
        flow.decode(np.zeros((4, 64), int))


def test_classes_are_numbers_of_classes(digits):
    flow = laminar.build("realnvp_flat", context="label", size={"width": 8, "steps": 2}).eval()
    labels = np.arange(300) % 10
    with laminar.initialising():
        flow.log_prob(digits, {"label": labels})
    by_array = flow.encode(digits, {"label": labels}, mean=True)
    assert np.array_equal(by_array, flow.encode(digits, {"label": torch.from_numpy(labels)}, mean=True))
    with noise.keyed(5, 1):
        one = flow.sample(5, {"label": torch.full((5,), 3)})
    torch.manual_seed(0)
    assert flow.sample(5, {"label": 3}).shape == one.shape == draw(flow, 5, {"label": torch.full((5,), 3)}).shape
    assert flow.log_prob(digits[:4], {"label": 3}).shape == (4,)
    for bad in (labels + 1, labels - 1, labels / 2):
        with pytest.raises(Refused, match=r"context\['label'\] holds numbers of classes, 0 to 9"):
            flow.log_prob(digits, {"label": bad})
    with pytest.raises(Refused, match=r"context\['label'\] has the shape \(299,\), and 300 rows of data need \(300,\)"):
        flow.log_prob(digits, {"label": labels[1:]})


def test_real_numbers_are_taken_in_any_precision_and_have_nats_alone():
    flow = laminar.build("nsf_coupling", data=laminar.Space((5,)), size={"width": 8, "steps": 2}).eval()
    x = np.random.default_rng(0).normal(size=(7, 5))
    assert flow.log_prob(x).dtype == np.float32 and np.array_equal(flow.log_prob(x), flow.log_prob(x.astype(np.float32)))
    value, error, grade = flow.nll(x)
    assert value == pytest.approx(-flow.log_prob(x).mean(), rel=1e-5) and error > 0 and grade == "exact"
    with pytest.raises(Refused, match=r"take nll\(x\), in nats"):
        flow.bits_per_dim(x)
    x[3, 2] = np.inf
    with pytest.raises(Refused, match="x holds values that are not finite"):
        flow.log_prob(x)


def test_columns_of_a_mixed_table_are_judged_each_by_its_own_levels():
    flow = laminar.build(
        "nsf_coupling", data=laminar.Space((2,), levels=(3, None)), dequantization="uniform", size={"width": 8}
    ).eval()
    assert flow.log_prob([[2, -7.5], [0, 100.25]]).shape == (2,)
    with pytest.raises(Refused, match="the integers 0 to 2"):
        flow.log_prob([[3, 0.5]])
    with pytest.raises(Refused, match="between the integers"):
        flow.log_prob([[0.5, 0.5]])


def test_pages_build_what_the_command_line_builds():
    flow = laminar.build("glow", data="digits", coupling="affine", size={"width": 16, "steps": 2, "levels": 2})
    same = laminar.build("glow", "size.width=16", "size.steps=2", "size.levels=2", coupling="affine")
    shapes = [[(name, p.shape) for name, p in each.named_parameters()] for each in (flow, same)]
    assert shapes[0] == shapes[1] and flow.training and flow.space.event == (1, 8, 8)
    assert flow.log_prob(torch.zeros(8, 1, 8, 8, dtype=torch.uint8)).shape == (8,)
    assert laminar.build(experiment="realnvp_moons").space.event == (2,)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"flow": "glow", "order": "random"}, "order"),
        ({"flow": "glow", "size": {"deep": 3}}, "size.deep would change nothing"),
        ({"flow": "realnvp_flat", "name": "it's"}, "holds quotes"),
    ],
)
def test_choices_that_change_nothing_are_refused(choices, message):
    with pytest.raises(Exception, match=message):
        laminar.build(**choices)


def test_the_public_names_are_there():
    assert set(laminar.__all__) >= {"load", "build", "Flow", "Space", "Transform", "Chain", "Step"}
    assert all(getattr(laminar, name) is not None for name in laminar.__all__)


@pytest.mark.parametrize(
    ("flow", "choices", "cure"),
    [
        ("gloww", {}, "did you mean flow=glow"),
        ("glow", {"coupling": "afine"}, "did you mean coupling=affine"),
        ("glow", {"size": {"widht": 3}}, "did you mean size.width"),
        ("glow", {"size": {"width": "big"}}, "size.width=big is not what the option holds"),
        ("glow", {"model": "glow"}, "say flow=glow"),
    ],
)
def test_what_cannot_be_built_is_told_as_a_command_tells_it(flow, choices, cure):
    with pytest.raises(laminar.Refused, match=cure):
        laminar.build(flow, **choices)
