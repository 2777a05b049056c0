"""Flow matching: paths and their optimal velocities in closed form, couplings by brute force, what is logged when, refusals."""

import csv
from functools import partial
from itertools import permutations
from math import exp, pi

import numpy as np
import pytest
import torch
from engine import callback, prepared, run
from pages import DIGITS, PLANE, composed, flow, members
from parts import refuses
from test_resume import assert_same_run
from torch import nn

from laminar.config.recipe import build
from laminar.flows import noise
from laminar.flows.compose.chain import Chain
from laminar.flows.dequantization.none import Reals
from laminar.flows.flow import Flow
from laminar.flows.layer.continuous import Continuous
from laminar.flows.net.velocity import Velocity
from laminar.flows.prior.gaussian import Gaussian
from laminar.flows.solver.dopri5 import Dopri5
from laminar.flows.space import Space
from laminar.flows.trace.exact import Exact
from laminar.runs.run import build_module
from laminar.runs.start import resume
from laminar.training.objective.flow_matching import FlowMatching, paired
from laminar.training.path.diffusion import Diffusion
from laminar.training.path.path import Path
from laminar.training.path.straight import Straight
from laminar.training.path.trigonometric import Trigonometric

MEAN, DEVIATION, START = 0.7, 0.4, 0.05  # of normal data, and of the noise that a path begins with


def diffusion() -> Diffusion:
    path = Diffusion()
    path.start = START
    return path


PATHS = {"straight": Straight, "trigonometric": Trigonometric, "diffusion": diffusion}


def coefficients(path, t):
    """a, b and their slopes by t, of x_t = a x + b z."""
    one, nothing = torch.ones_like(t), torch.zeros_like(t)
    (a, da), (b, db) = path(one, nothing, t), path(nothing, one, t)
    return a, da, b, db


@pytest.mark.parametrize("name", PATHS)
def test_a_paths_slope_is_its_derivative(name):
    path, t = PATHS[name](), torch.linspace(0.001, 1, 50, dtype=torch.float64, requires_grad=True)
    x, z = torch.randn(2, 50, dtype=torch.float64).unbind(0)
    point, slope = path(x, z, t)
    (expected,) = torch.autograd.grad(point.sum(), t)
    torch.testing.assert_close(slope, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", PATHS)
def test_a_path_leads_from_data_to_noise(name):
    path, (x, z) = PATHS[name](), torch.randn(2, 50, dtype=torch.float64).unbind(0)
    torch.testing.assert_close(path(x, z, torch.zeros(50).double())[0], x + path.start * z)
    reached = path(x, z, torch.ones(50).double())[0]
    left = exp(-(0.1 + 20) / 4) if path.noisy else 0.0  # a(1) of the diffusion
    torch.testing.assert_close(reached, left * x + (1 - (1 - path.start**2) * left**2) ** 0.5 * z, atol=1e-12, rtol=0)
    assert left < 0.007


def test_variance_is_kept_where_a_path_says_so():
    for path, kept in ((Trigonometric(), 1.0), (Diffusion(), 1.0)):
        a, _, b, _ = coefficients(path, torch.linspace(0.01, 1, 20, dtype=torch.float64))
        torch.testing.assert_close(a.square() + b.square(), torch.full_like(a, kept))


class Known(Velocity):
    """The best velocity of all for data N(mean, deviation^2): E[dx_t/dt | x_t], and a slope ``tilt`` beside it that is 0."""

    carries = False

    def __init__(self, *task, path=None):
        super().__init__(*task)
        self.path, self.tilt = path, nn.Parameter(torch.zeros(()))

    def forward(self, x, t, context=None):
        a, da, b, db = (value.unsqueeze(1) for value in coefficients(self.path, t))
        beside = (x - a * MEAN) / (a.square() * DEVIATION**2 + b.square())
        return da * (MEAN + a * DEVIATION**2 * beside) + db * b * beside + self.tilt * x


def known(path, dims: int = 2) -> Flow:
    layer = partial(Continuous, net=partial(Known, path=path), trace=Exact, solver=partial(Dopri5, 1e-8, 1e-8))
    return Flow(Space((dims,)), partial(Chain, parts=[Reals, layer]), Gaussian).double()


@pytest.mark.parametrize("name", PATHS)
def test_the_best_velocity_carries_the_datas_density(name):
    path = PATHS[name]()
    model, x = known(path), MEAN + torch.randn(20, 2, dtype=torch.float64)
    variance = DEVIATION**2 + path.start**2
    a, _, b, _ = coefficients(path, torch.ones(1, dtype=torch.float64))
    ends = float(a * MEAN), float((a.square() * DEVIATION**2 + b.square()).sqrt())  # of the noise that the path reaches
    with torch.no_grad():
        z, log_det = model.transform(x)
        found = torch.distributions.Normal(*ends).log_prob(z).sum(1) + log_det
    expected = torch.distributions.Normal(MEAN, variance**0.5).log_prob(x).sum(1)
    torch.testing.assert_close(found, expected.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PATHS)
def test_the_objective_is_at_its_best_there(name):
    path, n = PATHS[name](), 40_000
    model, objective = known(path), FlowMatching(path)
    torch.manual_seed(0)
    x = MEAN + DEVIATION * torch.randn(n, 2, dtype=torch.float64)
    with torch.no_grad():
        best = objective(model, x, {}, 0)
        gains = []
        for tilt in (0.05, -0.05):
            model.transform.parts[1].net.tilt.fill_(tilt)
            torch.manual_seed(1)
            moved = objective(model, x, {}, 0)
            torch.manual_seed(1)
            model.transform.parts[1].net.tilt.zero_()
            gains.append(moved - objective(model, x, {}, 0))
    assert best.shape == (n,) and best.mean() < -0.1
    for gain in gains:
        assert gain.mean() < -4 * gain.std() / n**0.5
    slope = (gains[0] - gains[1]) / 0.1
    assert abs(slope.mean()) < 4 * slope.std() / n**0.5


def test_the_least_loss_of_straight_paths_is_the_variance_that_is_left():
    """By quadrature: the mean over t of Var(dx_t/dt | x_t) of normal data."""
    t = torch.linspace(0, 1, 20001, dtype=torch.float64)
    a, da, b, db = coefficients(Straight(), t)
    variance = a.square() * DEVIATION**2 + b.square()
    left = da.square() * DEVIATION**2 + db.square() - (da * a * DEVIATION**2 + db * b).square() / variance
    torch.manual_seed(0)
    x = MEAN + DEVIATION * torch.randn(100_000, 2, dtype=torch.float64)
    with torch.no_grad():
        found = -FlowMatching(Straight())(known(Straight()), x, {}, 0)
    assert abs(found.mean() - torch.trapezoid(left, t)) < 4 * found.std() / len(x) ** 0.5


def test_a_rows_loss_depends_on_its_key_alone():
    model, x, keys = flow(PLANE, "flow=cfm_mlp", "data=moons"), torch.randn(40, 2), noise.mix(0, np.arange(40))
    objective = build(composed("flow=cfm_mlp", "data=moons").objective, "objective")
    with noise.source(keys):
        whole = objective(model, x, {}, 0)
    with noise.source(keys[5:9]):
        torch.testing.assert_close(objective(model, x[5:9], {}, 0), whole[5:9])
    with noise.source(keys + 1):
        assert (objective(model, x, {}, 0) - whole).abs().min() > 0


class Spy(Path):
    """A path that tells what it is asked for."""

    def __init__(self, path: Path, seen: list):
        self.path, self.noisy, self.seen = path, path.noisy, seen

    def __call__(self, x, z, t):
        self.seen.append((x, z))
        return self.path(x, z, t)


def test_the_optimal_coupling_is_that_of_brute_force():
    x, z = torch.randn(2, 6, 3, 2).unbind(0)
    for n in (1, 2, 6):
        costs = {order: (x[:n] - z[list(order)]).square().sum() for order in permutations(range(n))}
        assert torch.equal(paired(x[:n], z[:n], {}), z[list(min(costs, key=costs.get))])


def test_pairs_stay_within_their_class():
    labels, (x, z) = torch.tensor([0, 1, 2] * 20), torch.randn(2, 60, 4).unbind(0)
    z = z + 10 * labels.unsqueeze(1)
    mixed = paired(x + 10 * labels.flip(0).unsqueeze(1), z, {"label": nn.functional.one_hot(labels, 3).float()})
    for label in range(3):
        rows = labels == label
        assert set(map(tuple, mixed[rows].tolist())) == set(map(tuple, z[rows].tolist()))
    assert not torch.equal(mixed, z)


def test_classes_are_paired_apart_in_the_objective():
    space, seen = Space((1, 8, 8), levels=17, context={"label": (10,)}), []
    words = ("flow=cfm_mlp", "data=digits", "context=label", "size.width=8", "objective.coupling=optimal")
    model, objective = flow(space, *words), build(composed(*words).objective, "objective")
    objective.check(model)
    objective.path = Spy(objective.path, seen)
    x, label = torch.randint(17, (40, 1, 8, 8)), torch.arange(40) % 2
    with noise.source(noise.mix(0, np.arange(40))):
        objective(model, x, {"label": label}, 0)
    with noise.source(noise.mix(0, np.arange(40))):
        model.transform.parts[0](x)
        z = model.prior.sample(40)
    drawn = {tuple(row.tolist()): int(label[i]) for i, row in enumerate(z)}
    paired_with = seen[0][1]
    assert [drawn[tuple(row.tolist())] for row in paired_with] == label.tolist() and not torch.equal(paired_with, z)


def test_a_path_that_begins_beside_the_data_learns_from_the_dequantizers_own_noise():
    noise = ("path=diffusion", "dequantization=truncated_normal", "preprocessing=symmetric")
    words = ("flow=cfm_mlp", "data=digits", *noise, "size.width=8")
    model, objective, seen = flow(DIGITS, *words), build(composed(*words).objective, "objective"), []
    objective.check(model)
    assert objective.path.start == pytest.approx(0.125 * 2 / 17)
    objective.path = Spy(objective.path, seen)
    x = torch.randint(17, (5, 1, 8, 8))
    objective(model, x, {}, 0)
    torch.testing.assert_close(seen[0][0], 2 * (x.flatten(1) + 0.5) / 17 - 1)
    assert model.grade == "bound"


@pytest.mark.parametrize("name", members("path"))
def test_paths_are_pages(name):
    path = build(
        composed("flow=cfm_mlp", "data=digits", "dequantization=truncated_normal", f"path={name}").objective, "objective"
    ).path
    assert type(path).__module__ == f"laminar.training.path.{name}" and path.start == 0


REFUSED = {
    "no continuous part": ("flow=realnvp_flat objective=flow_matching", "exactly one Continuous is needed"),
    "two of them": ("flow=ffjord size.steps=2 objective=flow_matching", r"exactly one Continuous.* has 2"),
    "levels of them": ("flow=ffjord_image objective=flow_matching", "exactly one Continuous.* has 0"),
    "diffusion from data": ("flow=cfm_mlp path=diffusion", "another variable.*dequantization=truncated_normal.*path=straight"),
    "diffusion through a logit": (
        "flow=cfm_mlp path=diffusion dequantization=truncated_normal preprocessing=logit",
        "logit would distort.*preprocessing=symmetric",
    ),
    "a learned prior": ("flow=cfm_mlp prior=mixture", "trains the continuous part alone, and prior"),
    "a learned dequantizer": (
        "flow=cfm_mlp dequantization=variational_small",
        "trains the continuous part alone, and transform.parts.0",
    ),
    "another coupling": ("flow=cfm_mlp objective.coupling=random", "objective.coupling is one of independent, optimal"),
    "never a likelihood": ("flow=cfm_mlp objective.likelihood_every=0", "likelihood_every=0 counts validations"),
    "a rate of nothing": ("flow=cfm_mlp path=diffusion path.beta_0=0", "path.beta_0=0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_flow_matching_cannot_train_is_refused(case):
    words, sentence = REFUSED[case]

    def cook():
        config = composed(*words.split(), "data=digits")
        build(config.objective, "objective").check(flow(DIGITS, *words.split(), "data=digits", device="meta"))

    refuses(cook, sentence)


def test_pairs_across_conditions_are_refused():
    words = ("flow=cfm_mlp", "data=digits", "objective.coupling=optimal", "context=label", "size.width=8")
    model = flow(Space((1, 8, 8), levels=17, context={"label": (10,), "low": (1, 4, 4)}), *words)
    refuses(
        lambda: build(composed(*words).objective, "objective").check(model),
        "low is hardly the same twice.*coupling=independent",
    )


# Runs

MOONS = ("flow=cfm_mlp", "data=moons", "size.depth=1", "data.train_size=1000", "data.test_size=200")
ENGINE = ("trainer.max_steps=10", "trainer.val_check_interval=2", "solver.rtol=1e-3", "solver.atol=1e-3")


def rows_of(folder) -> list[dict]:
    return list(csv.DictReader((folder / "metrics.csv").open()))


def test_validation_asks_for_the_likelihood_on_a_schedule_of_its_own(tmp_path):
    numbers = run(prepared(tmp_path, *MOONS, *ENGINE, "objective.likelihood_every=3"), tmp_path)
    rows = [row for row in rows_of(tmp_path) if row["val/loss"]]
    assert [bool(row["val/nll"]) for row in rows[:5]] == [False, False, True, False, True]  # the last always
    assert {"test/nll", "test/excess", "val/nll"} <= numbers.keys() and numbers["grade"] == "exact"
    assert not any("train/nll" in row for row in rows) and all(float(row["val/loss"]) > 0 for row in rows)
    assert (tmp_path / "checkpoints" / "best.ckpt").exists()


def test_images_are_matched_with_dropout_and_scored_without(tmp_path):
    words = ("flow=cfm", "data=digits", "net.multipliers=[1,2]", "net.attention=[4]", "size.depth=1", "size.steps=null")
    engine = (
        "trainer.max_steps=2",
        "trainer.val_check_interval=2",
        "trainer.limit_val_batches=1",
        "trainer.limit_test_batches=1",
    )
    numbers = run(prepared(tmp_path, *words, *engine, "solver.rtol=1e-2", "solver.atol=1e-2", "data.batch_size=20"), tmp_path)
    assert {"test/bpd", "val/loss", "val/nfe"} <= numbers.keys() and numbers["grade"] == "bound+estimate"


def test_a_resumed_run_keeps_the_schedule(tmp_path):
    words = (*MOONS, *ENGINE, "objective.likelihood_every=2", "test=false", "callbacks=[nonfinite,ema,checkpoints]")
    run(prepared(tmp_path / "whole", *words), tmp_path / "whole")
    with pytest.raises(RuntimeError, match="power cut"):
        run(prepared(tmp_path / "parts", *words, *callback("StopAt", step=8)), tmp_path / "parts")
    config = tmp_path / "parts" / "config.yaml"
    config.write_text(config.read_text().replace("step: 8", "step: -1"))
    resume(tmp_path / "parts", ["allow=[engine]"])
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_only_the_continuous_part_and_all_of_it_learns(tmp_path):
    plain = prepared(tmp_path, "flow=cfm_mlp", "data=digits", "size.depth=1")
    module = build_module(plain, build(plain["flow"], "flow")(DIGITS))
    value = module.objective(module.flow, torch.randint(17, (8, 1, 8, 8)), {}, 0).mean()
    value.backward()
    assert all(parameter.grad is not None for parameter in module.flow.parameters() if parameter.requires_grad)


def test_flow_matching_learns_a_density():
    """In 150 steps: of a thin ring, 0.7 nats above what N(0, I) gives it."""
    torch.manual_seed(0)
    words = ("flow=cfm_mlp", "data=moons", "size.width=32", "size.depth=2", "objective.coupling=optimal")
    model, objective = flow(PLANE, *words), build(composed(*words).objective, "objective")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    angle = 2 * pi * torch.rand(4000)
    data = torch.stack([angle.cos(), angle.sin()], 1) * 2 + 0.1 * torch.randn(4000, 2)
    with torch.no_grad():
        before = model.log_prob(data[:500]).mean()
    for step in range(150):
        loss = -objective(model, data[torch.randint(4000, (128,))], {}, step).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert model.log_prob(data[:500]).mean() > before + 0.7
