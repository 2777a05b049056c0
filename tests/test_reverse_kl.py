"""Flows drawn towards a density: targets against quadrature, importance weights against known constants, refusals."""

import csv
import json
import math
from functools import partial

import pytest
import torch
from engine import prepared, run
from pages import members
from parts import bell
from scipy import stats
from test_priors import KNOWN, built, known_priors
from test_resume import assert_same_run

from laminar.config.pages import compose
from laminar.config.recipe import build
from laminar.flows import noise
from laminar.flows.compose.chain import Chain
from laminar.flows.flow import Flow
from laminar.flows.norm.actnorm import ActNorm
from laminar.flows.prior.gaussian import Gaussian
from laminar.flows.prior.logistic import Logistic
from laminar.flows.prior.mixture import Mixture
from laminar.flows.space import Space
from laminar.refused import Refused
from laminar.runs.evaluate import start as evaluate
from laminar.runs.start import resume
from laminar.training.metric import LogWeights
from laminar.training.objective.reverse_kl import ReverseKL
from laminar.training.target.potentials import U1, U2, U3, U4

SMALL = ("flow=iaf", "data=nothing", "objective=reverse_kl", "data.batch_size=100", "data.train_size=1000")
SMALL += ("data.test_size=2000", "trainer.max_steps=8")


def independent(dims=3, prior=Gaussian, scale=0.7, shift=0.4):
    """q(x) of x = z exp(-log_scale) - shift, in float64."""
    flow = Flow(Space((dims,)), partial(Chain, parts=[partial(ActNorm, per="element")]), prior).double()
    (norm,) = flow.transform.parts
    norm.settle()
    with torch.no_grad():
        norm.log_scale.copy_(torch.linspace(-scale, scale, dims))
        norm.shift.fill_(shift)
    return flow


@known_priors
def test_a_priors_entropy_is_scipys(name):
    prior = built(name, 3, 2)
    assert prior.entropy() == pytest.approx(6 * KNOWN[name][0].entropy(), rel=1e-9)


def test_a_mixture_has_no_closed_entropy_and_no_gradient_to_all_of_itself():
    flow = independent(prior=partial(Mixture, components=3))
    assert flow.prior.entropy() is None
    with pytest.raises(Refused, match=r"learned prior.*prior=gaussian"):
        ReverseKL(bell).check(flow)


@pytest.mark.parametrize("prior", [Gaussian, Logistic])
def test_a_flows_entropy_is_minus_the_mean_of_its_log_density(prior):
    """With a constant target the objective is the entropy, by the closed form. With another, its gradient is that by -log q."""
    flow = independent(prior=prior)
    objective, rows = ReverseKL(lambda x: x.new_zeros(len(x)), num_samples=5), torch.zeros(4000, 3)
    value = objective(flow, rows, {}, 0)
    x, log_prob = flow.sample_with_log_prob(20_000)
    torch.testing.assert_close(flow.log_prob(x), log_prob)
    error = log_prob.std().item() / len(x) ** 0.5
    assert value.shape == (4000,) and abs(value.mean().item() + log_prob.mean().item()) < 4 * error
    objective = ReverseKL(bell, num_samples=5)
    torch.manual_seed(1)
    closed = torch.autograd.grad(objective(flow, rows, {}, 0).mean(), [*flow.parameters()])
    torch.manual_seed(1)
    drawn = torch.autograd.grad(objective.log_weights(flow, rows, {}, 0).mean(), [*flow.parameters()])
    torch.testing.assert_close(closed, drawn)


def test_a_draw_depends_on_its_rows_key_alone():
    flow, rows = independent(), torch.zeros(4, 3)

    def ask(keys):
        with noise.source(noise.mix(0, keys)):
            return ReverseKL(bell, num_samples=3)(flow, rows[: len(keys)], {}, 0)

    torch.testing.assert_close(ask([5, 6, 7, 8])[[2, 0]], ask([7, 5]))


def test_log_weights_know_the_constant_and_the_kl_of_gaussians():
    torch.manual_seed(0)
    flow, objective = independent(scale=0.2, shift=-0.9), ReverseKL(bell, num_samples=2)
    with torch.no_grad():
        flow.transform.parts[0].log_scale.add_(0.6)
        log_weights = objective.log_weights(flow, torch.zeros(50_000, 3), {}, 0)
        deviation = (-flow.transform.parts[0].log_scale).exp()
    known, blind = LogWeights(normalised=True), LogWeights()
    log_z = 3 + 3 * math.log(math.sqrt(2 * math.pi) / 2)
    known.update(log_weights - log_z)
    for part in log_weights.split(1):  # in batches
        blind.update(part)
    kl = (torch.log(0.5 / deviation) + (deviation**2 + 0.1**2) / (2 * 0.25) - 0.5).sum().item()  # N(.9, d^2) from N(1, 1/4)
    found = blind.compute()
    assert found["ess"] > 0.5
    assert abs(found["log_z"] - log_z) < 3 * found["log_z_se"] < 0.02
    for numbers in (found, known.compute()):
        assert abs(numbers["kl"] - kl) < 3 * numbers["kl_se"] < 0.03
    assert abs(known.compute()["log_z"]) < 3 * known.compute()["log_z_se"]


def test_standard_errors_of_log_weights_are_those_of_repetitions():
    torch.manual_seed(0)
    flow, objective, found = independent(scale=0.2, shift=-0.9), ReverseKL(bell), []
    with torch.no_grad():
        flow.transform.parts[0].log_scale.add_(0.6)
        for _ in range(400):
            metric = LogWeights()
            metric.update(objective.log_weights(flow, torch.zeros(500, 3), {}, 0))
            found.append(metric.compute())
    for name in ("log_z", "kl"):
        spread = torch.stack([numbers[name] for numbers in found]).std()
        told = torch.stack([numbers[f"{name}_se"] for numbers in found]).mean()
        assert 0.8 < told / spread < 1.25


BUMP = math.sqrt(2 * math.pi)
LENGTH = 8 + 0.4 * BUMP  # of the picture, and of what falls off beyond it
MASS = {U2: 0.4 * BUMP * LENGTH, U3: 2 * 0.35 * BUMP * LENGTH, U4: (0.4 + 0.35) * BUMP * LENGTH}


@pytest.mark.parametrize("kind", [U1, U2, U3, U4])
def test_targets_have_the_mass_of_their_formulas(kind):
    axis = torch.arange(-9, 9, 0.02, dtype=torch.float64) + 0.01
    target, points = kind(), torch.cartesian_prod(axis, axis)
    mass = target(points).exp().sum().item() * 0.02**2
    if kind in MASS:
        assert mass == pytest.approx(MASS[kind], rel=1e-6)
    else:  # in polar coordinates
        radius, angle = torch.arange(0.0005, 9, 0.001, dtype=torch.float64), torch.arange(2000).double() * math.pi / 1000
        x = radius[:, None] * angle.cos()
        sides = torch.exp(-0.5 * ((x - 2) / 0.6) ** 2) + torch.exp(-0.5 * ((x + 2) / 0.6) ** 2)
        ring = torch.exp(-0.5 * ((radius - 2) / 0.4) ** 2) * radius
        assert mass == pytest.approx((sides.mean(1) * ring).sum().item() * 0.001 * 2 * math.pi, rel=1e-4)
    far = torch.tensor([[0.0, 0.0], [1e3, -1e3], [4.0, 4.0]], requires_grad=True)
    (slope,) = torch.autograd.grad(target(far).sum(), far)
    assert target(far).isfinite().all() and slope.isfinite().all()


def test_within_the_papers_picture_nothing_is_added():
    x = torch.tensor([[-3.9, 0.2], [0.0, 1.0], [1.0, 3.0]])
    torch.testing.assert_close(U2()(x), -0.5 * ((x[:, 1] - torch.sin(math.pi * x[:, 0] / 2)) / 0.4) ** 2)


@pytest.mark.parametrize("name", members("target"))
def test_targets_build(name):
    words = ["target.name=parts.bell", "allow=[parts]"] if name == "function" else []
    objective = build(compose("train", ["objective=reverse_kl", f"target={name}", *words]).objective, "objective", ["parts"])
    assert objective.log_target(torch.zeros(5, 2)).shape == (5,)


def test_a_run_without_data_scores_its_objective(tmp_path):
    words = (*SMALL, "callbacks=[densities,throughput,checkpoints]")
    numbers = run(prepared(tmp_path / "whole", *words), tmp_path / "whole")
    assert numbers == json.loads((tmp_path / "whole" / "metrics.json").read_text())
    expected = {
        "val/free_energy",
        "test/free_energy",
        "test/free_energy_se",
        "test/kl",
        "test/log_z",
        "test/log_z_se",
        "test/ess",
    }
    assert expected <= numbers.keys() and not {"val/nll", "test/nll", "test/bpd"} & numbers.keys()
    assert numbers["test/kl"] == pytest.approx(numbers["test/free_energy"] + numbers["test/log_z"], abs=1e-5)
    rows = list(csv.DictReader((tmp_path / "whole" / "metrics.csv").open()))
    assert any(row["train/free_energy"] for row in rows) and "train/nll" not in rows[0]
    assert (tmp_path / "whole" / "figures" / "density.png").exists()
    with pytest.raises(Refused, match="trained on no data"):
        evaluate(compose("evaluate", [f"run={tmp_path / 'whole'}", "device=cpu"]))
    words = (*SMALL, "callbacks=[ema,checkpoints]", "test=false")
    run(prepared(tmp_path / "one", *words), tmp_path / "one")
    run(prepared(tmp_path / "parts", *words, "trainer.max_steps=4"), tmp_path / "parts")
    resume(tmp_path / "parts", ["trainer.max_steps=8"])
    assert_same_run(tmp_path / "one", tmp_path / "parts")


def test_a_run_finds_the_constant_of_a_function_of_ones_own(tmp_path):
    """Of a Gaussian, by a Gaussian: the KL goes to 0 and log Z is known."""
    words = ("flow=gaussian", "target=function", "target.name=parts.bell", "allow=[parts]", "optimizer.lr=0.05")
    numbers = run(prepared(tmp_path, *SMALL, *words, "trainer.max_steps=150", "trainer.val_check_interval=9"), tmp_path)
    log_z = 3 + math.log(2 * math.pi / 4)
    assert abs(numbers["test/log_z"] - log_z) < 4 * numbers["test/log_z_se"] < 0.02
    assert numbers["test/free_energy"] == pytest.approx(-log_z, abs=0.02) and numbers["test/ess"] > 0.95


WRONG = {
    "NaN": (["target.name=parts.not_a_number", "allow=[parts]"], "NaN or -inf at some draws"),
    "a box": (["target.name=parts.boxed", "allow=[parts]"], "so the KL would be infinite"),
    "a wrong shape": (["target.name=parts.of_each_value", "allow=[parts]"], r"gives \(64, 2\) for 64 events"),
    "a stranger": (["target.name=parts.bell"], "outside the packages"),
    "no name": ([], "needs its name: target.name="),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_target_is_refused(tmp_path, case):
    words, sentence = WRONG[case]
    with pytest.raises(Refused, match=sentence):
        run(prepared(tmp_path, *SMALL, "target=function", *words), tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_what_the_plane_and_the_line_do_not_share_is_refused(tmp_path):
    with pytest.raises(Refused, match=r"a density of the plane.*\(3,\)"):
        run(prepared(tmp_path, *SMALL, "data.dims=3"), tmp_path)
    with pytest.raises(Refused, match=r"data.dims=0"):
        run(prepared(tmp_path, *SMALL, "data.dims=0"), tmp_path)


def test_nothing_cannot_be_likely(tmp_path):
    for objective in ("likelihood", "kl_warmup"):
        with pytest.raises(Refused, match="no data to be likely: choose objective=reverse_kl"):
            run(prepared(tmp_path, *SMALL, f"objective={objective}"), tmp_path)


def test_scipy_agrees_on_bell():
    x = torch.randn(5, 2, dtype=torch.float64)
    expected = stats.norm(1, 0.5).logpdf(x.numpy()).sum(1) + 3 + math.log(2 * math.pi / 4)
    torch.testing.assert_close(bell(x), torch.from_numpy(expected))
