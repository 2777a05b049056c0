"""What a number is called: nothing that is no likelihood of the data is ever told as bits/dim or nats of them."""

import json
from functools import partial

import pytest
import torch
from engine import prepared
from torch.distributions import Normal

from laminar.config.pages import compose
from laminar.flows import noise
from laminar.flows.compose.chain import Chain
from laminar.flows.dequantization.as_reals import AsReals
from laminar.flows.dequantization.gaussian import GaussianNoise
from laminar.flows.dequantization.none import Reals
from laminar.flows.dequantization.uniform import Uniform
from laminar.flows.flow import Flow
from laminar.flows.preprocessing.affine import Affine
from laminar.flows.preprocessing.logit import Logit
from laminar.flows.prior.gaussian import Gaussian
from laminar.flows.prior.uniform import Uniform as UniformPrior
from laminar.flows.space import Space
from laminar.flows.units import UNITS
from laminar.pictures import curves
from laminar.refused import Refused
from laminar.runs import evaluate
from laminar.runs.run import run
from laminar.training.logger.csv import read

PIXELS, MIXED = Space((1, 2, 2), levels=8), Space((3,), levels=(8, None, 2))
SYMMETRIC = partial(Affine, low=-1.0, high=1.0)


def flow_of(space, *parts, prior=Gaussian) -> Flow:
    return Flow(space, partial(Chain, parts=parts), prior).double().eval()


@pytest.mark.parametrize(
    ("first", "unit"),
    [(Uniform, "bpd"), (AsReals, "not_a_likelihood"), (GaussianNoise, "noisy_nll")],
)
def test_a_flow_says_its_unit(first, unit):
    flow = flow_of(PIXELS, first, SYMMETRIC)
    assert flow.unit == unit and unit in UNITS
    assert flow.grade == ("bound" if first is Uniform else "exact")
    assert flow.density().unit == "nll" == flow_of(Space((2,)), Reals).unit


@pytest.mark.parametrize("first", [AsReals, GaussianNoise])
def test_levels_come_back_and_real_columns_stay(first):
    x = torch.randint(8, (9, 1, 2, 2), dtype=torch.uint8)
    flow = flow_of(PIXELS, first, SYMMETRIC)
    assert torch.equal(flow.decode(flow.encode(x, mean=True), mean=True), x)
    part = flow.transform.parts[0]
    assert part.inverse(torch.full((1, 1, 2, 2), 7.6)).unique().tolist() == [7]
    assert part.inverse(torch.full((1, 1, 2, 2), -0.7)).unique().tolist() == [0]
    assert part.outside(torch.tensor([[[[7.4, -0.4], [0.0, 1.0]]], [[[7.6, 0.0], [0.0, 0.0]]]])).tolist() == [False, True]
    rows = torch.tensor([[7.0, 0.123, 1.0], [0.0, -5.5, 0.0]], dtype=torch.float64)
    mixed = flow_of(MIXED, first)
    assert torch.equal(mixed.decode(mixed.encode(rows, mean=True)), rows)
    assert torch.equal(mixed.transform.parts[0](rows)[0][:, 1], rows[:, 1])
    with pytest.raises(Refused, match=r"has no log-det.*flow\.density\(\)"):
        flow.sample_with_log_prob(3)


def test_gaussian_noise_is_that_of_pixels_in_minus_one_to_one():
    flow = flow_of(PIXELS, partial(GaussianNoise, sigma=0.05), SYMMETRIC)
    x = torch.full((20_000, 1, 2, 2), 3, dtype=torch.uint8)
    z = flow.encode(x)
    assert z.std().item() == pytest.approx(0.05, rel=0.02) and z.mean().item() == pytest.approx(2 * 3 / 8 - 1, abs=1e-3)
    assert flow.transform.parts[0].sigma.item() == pytest.approx(0.05 * 4)  # in levels
    with noise.keyed(len(x)):
        noisy = flow.transform.parts[0](x)[0]
    with noise.keyed(len(x)):
        found = flow.log_prob(x)
    # log N(z) of z = x / 4 - 1, in units of a level.
    known = Normal(4.0, 4.0).log_prob(noisy.double()).flatten(1).sum(1)
    torch.testing.assert_close(found, known)


def test_what_bounds_nothing_takes_no_samples_and_no_edges():
    for first in (AsReals, GaussianNoise):
        with pytest.raises(Refused, match=r"tightens a bound.*dequantization=uniform"):
            flow_of(PIXELS, first).log_prob(torch.zeros(1, 1, 2, 2), num_samples=2)
        with pytest.raises(Refused, match="choose dequantization=none"):
            first(Space((2,)))
    with pytest.raises(Refused, match="preprocessing=symmetric"):
        flow_of(PIXELS, GaussianNoise, Logit)
    with pytest.raises(Refused, match="prior=uniform has no density outside"):
        flow_of(PIXELS, GaussianNoise, partial(Affine, low=0.0, high=1.0), prior=UniformPrior)
    with pytest.raises(Refused, match="sigma"):
        GaussianNoise(PIXELS, sigma=0.0)
    with pytest.raises(Refused, match=r"dequantization=as_reals.*no likelihood"):
        flow_of(PIXELS, Reals)


@pytest.mark.parametrize(("member", "unit"), [("as_reals", "not_a_likelihood"), ("gaussian", "noisy_nll")])
def test_a_run_never_calls_it_a_likelihood(tmp_path, capsys, member, unit):
    words = [f"dequantization={member}", "preprocessing=symmetric", "trainer.max_steps=8", "callbacks=[checkpoints,progress]"]
    run(prepared(tmp_path / "run", *words), tmp_path / "run")
    numbers = json.loads((tmp_path / "run" / "metrics.json").read_text())
    scores = {name for name in numbers if name.startswith(("test/", "val/"))}
    assert scores == {f"{stage}/{unit}{error}" for stage in ("val", "test") for error in ("", "_se")}
    rows = read(tmp_path / "run" / "metrics.csv")
    assert f"train/{unit}" in rows[0] and not {"train/bpd", "train/nll", "val/bpd", "val/nll"} & rows[0].keys()
    assert curves.curves(rows, tmp_path / "curves.png")
    shown = capsys.readouterr().out
    assert f"test {UNITS[unit]}" in shown and "bits/dim" not in shown
    config = compose("evaluate", [f"run={tmp_path / 'run'}", "device=cpu"])
    assert evaluate.start(config) == pytest.approx(numbers[f"test/{unit}"], rel=1e-5)
    assert UNITS[unit] in capsys.readouterr().out
    with pytest.raises(Refused, match=f"num_samples=2 does not fit a number that is {unit}"):
        run(prepared(tmp_path / "more", *words, "num_samples=2"), tmp_path / "more")


def test_integers_of_known_probabilities_report_their_excess_in_nats(tmp_path):
    words = ["flow=cdf", "data=integers_1d", "preprocessing=unit", "trainer.max_steps=4", "~size.width", "~size.steps"]
    numbers = run(prepared(tmp_path, *words), tmp_path)
    entropy = 2.657668  # bits
    assert numbers["test/excess"] == pytest.approx((numbers["test/bpd"] - entropy) * 0.693147, abs=0.02)
