"""Residual flows: published counts, unbiased series and gradients, memory, norms, inverses, and what a run keeps."""

import subprocess
import sys
import weakref
from functools import partial

import numpy as np
import pytest
import torch
from engine import prepared
from pages import CIFAR, IMAGENET64, MNIST, PLANE, flow, parameters
from parts import refuses
from recipes import disturb
from scipy import stats
from test_resume import assert_same, assert_same_run
from torch import nn

from laminar.flows import ledger, noise
from laminar.flows.compose.chain import Chain
from laminar.flows.compose.repeat import Repeat
from laminar.flows.dequantization.uniform import Uniform
from laminar.flows.fixed_point import NoContraction
from laminar.flows.flow import Flow
from laminar.flows.layer.residual import Residual
from laminar.flows.net.contraction import Contraction
from laminar.flows.net.convnet import ConvNet
from laminar.flows.net.lipschitz import Lipschitz
from laminar.flows.net.lipschitz_densenet import LipschitzDenseNet
from laminar.flows.net.lipswish import CLipSwish, LipSwish
from laminar.flows.net.spectral import Spectral, SpectralConv, SpectralLinear
from laminar.flows.prior.gaussian import Gaussian
from laminar.flows.space import Space
from laminar.flows.trace.exact import Exact
from laminar.flows.trace.hutchinson import Hutchinson
from laminar.flows.trace.roulette import Roulette, _survival
from laminar.flows.trace.series import Series
from laminar.flows.trace.truncated import Truncated
from laminar.refused import Refused
from laminar.runs.run import run
from laminar.runs.start import resume
from laminar.training.checkpoint import load, read

D = 3
SPACE, IMAGE = Space((D,)), Space((2, 4, 4))

# The authors' code counts the two numbers of each block's roulette, which it does not train, and an unused classifier.
PUBLISHED = {
    "mnist": (16_608_693 - 2 * 52, MNIST, "flow=resflow"),
    "cifar10": (25_174_233 - 2 * 52, CIFAR, "flow=resflow"),
    "imagenet32": (47_099_289 - 2 * 100, CIFAR, "flow=resflow", "size.steps=32"),
    "imagenet64": (53_294_475 - 2 * 100, IMAGENET64, "flow=resflow", "size.steps=32", "multiscale=residual_halves"),
    "iresnet": (25_029_130 - 586, CIFAR, "flow=iresnet"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name):
    count, *words = PUBLISHED[name]
    built = flow(*words, device="meta")
    assert sum(parameter.numel() for parameter in built.parameters()) == count
    if name != "imagenet64":
        return
    # Four connected blocks at the very end, and no activation at the very beginning.
    blocks = [part for part in built.modules() if isinstance(part, Residual)]
    assert [part.domain.event for part in blocks[-4:]] == [(48 * 8 * 8,)] * 4
    assert [part.domain.event for part in blocks[:96:32]] == [(12, 32, 32), (24, 16, 16), (48, 8, 8)]
    assert [part.net.before is None for part in blocks] == [True] + 99 * [False]


def test_an_i_densenets_parameters_one_by_one():
    def block(c: int, kernel: int, width: int, growth: int) -> int:
        dense = sum((kernel * (width + i * growth) + 1) * growth // 2 + 1 + 2 for i in range(3))  # a slope and two shares each
        return dense + (width + 3 * growth + 1) * c

    convs = sum(16 * (block(c, 9, c, 172) + 2 * c) for c in (3, 12, 48)) + 2 * 3
    ends = 4 * (3073 * 64 + block(3072, 1, 64, 32) + 2 * 3072)
    assert parameters(CIFAR, "flow=idensenet") == convs + ends


# -- a strong block, and all that its series is made of ----------------------------------------------------------------


def strong(space=SPACE, trace=Exact, dtype=torch.float64, seed=0, net=Lipschitz, **options) -> Residual:
    """A block whose slope is far from 0."""
    torch.manual_seed(seed)
    options = {"width": 8, "depth": 1, "activation": nn.ELU} | options
    layer = disturb(Residual(space, partial(net, **options), trace), 4.0)
    with torch.no_grad():
        for part in layer.net.spectral:  # all singular values alike, where there is room
            a, b = part.weight.flatten(1).shape
            part.weight.add_(3 * torch.eye(a, b).view_as(part.weight) if part.weight.dim() == 2 else 0)
            part.bias.mul_(0.1)
    layer = layer.to(dtype).eval()
    layer.refresh()
    return layer


def twin(layer: Residual, trace) -> Residual:
    other = strong(layer.domain, trace)
    other.load_state_dict(layer.state_dict())
    return other


def jacobian(layer: Residual, x: torch.Tensor) -> torch.Tensor:
    """dg/dx of one event."""
    whole = torch.autograd.functional.jacobian(lambda v: layer(v[None])[0].flatten(), x).reshape(x.numel(), x.numel())
    return whole.detach() - torch.eye(x.numel(), dtype=x.dtype)


class EverySign:
    """In place of random signs all of them: means over probes without noise."""

    def draw(self, x):
        signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=x.dtype)] * D)
        return signs.expand(len(x), -1, -1)


class Whole(EverySign, Series):
    """A series of n terms, weighed as it is told."""

    def __init__(self, weights, gradients):
        super().__init__(2**D, gradients=gradients)
        self.told = weights

    def weights(self, x, training):
        return torch.tensor(self.told, dtype=x.dtype).unsqueeze(1)


@pytest.fixture(scope="module")
def block():
    layer = strong()
    x = torch.randn(4, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    norms = [float(torch.linalg.matrix_norm(jacobian(layer, row), 2)) for row in x]
    assert max(norms) > 0.4 and max(norms) < 0.98**2
    return layer, x


@pytest.mark.parametrize("gradients", ["series", "neumann"])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_truncated_series_is_biased_as_theory_says(block, n, gradients):
    exact, x = block
    layer, (_, truth) = twin(exact, partial(Whole, [1.0] * n, gradients)), exact(x)
    _, log_det = layer(x)
    for row, value, whole in zip(x, log_det, truth, strict=True):
        j, c = jacobian(exact, row), torch.linalg.matrix_norm(jacobian(exact, row), 2)
        series = sum((-1) ** (k + 1) / k * torch.linalg.matrix_power(j, k).trace() for k in range(1, n + 1))
        torch.testing.assert_close(value, series)
        assert 0 < (value - whole).abs() <= D * c ** (n + 1) / ((n + 1) * (1 - c))


def gradient(layer: Residual, x: torch.Tensor, scale: torch.Tensor) -> list[torch.Tensor]:
    """Of sum_i scale_i (log-det_i + |z_i|^2) in x and all parameters."""
    x = x.clone().requires_grad_()
    z, log_det = layer(x)
    return list(torch.autograd.grad((scale * (log_det + z.square().sum(1))).sum(), [x, *layer.parameters()]))


@pytest.mark.parametrize("weights", [[1.0] * 4, [1.0, 1.0, 1.3, 2.0, 0.7]])
def test_a_neumann_gradient_is_in_the_mean_that_of_its_series(block, weights):
    """By every sign there is; and rows may count differently."""
    exact, x = block
    found = [
        gradient(twin(exact, partial(Whole, weights, way)), x, torch.tensor([1.0, -2.0, 0.0, 0.3], dtype=torch.float64))
        for way in ("series", "neumann")
    ]
    # The series' own gradient of x is that of the same numbers for any probes; of the weights, in the mean over all.
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("distribution", "rate"), [("poisson", 2.0), ("poisson", 0.5), ("geometric", 0.5)])
def test_a_roulettes_weights_are_one_in_the_mean(distribution, rate):
    survival = _survival(distribution, rate)
    known = stats.poisson(rate) if distribution == "poisson" else stats.geom(rate)
    np.testing.assert_allclose(survival, known.sf(np.arange(len(survival))), rtol=1e-3)
    assert known.sf(len(survival)) < 2e-15
    trace = Roulette(1, 3, distribution, rate)
    weights = trace.weights(torch.zeros(40_000, D, dtype=torch.float64), training=False)
    assert torch.equal(weights[:3], torch.ones(3, 40_000, dtype=torch.float64))
    errors = weights.std(1) / 200
    assert ((weights.mean(1) - 1).abs()[:6] <= 4 * errors[:6]).all()
    assert trace.weights(torch.zeros(7, D), training=True).shape[1] == 1


@pytest.mark.parametrize(("distribution", "rate"), [("poisson", 2.0), ("geometric", 0.5)])
@pytest.mark.parametrize("probes", ["gaussian", "rademacher"])
@pytest.mark.parametrize("gradients", ["neumann", "series"])
def test_roulette_averages_to_the_exact_log_det_and_so_do_its_gradients(block, distribution, rate, probes, gradients):
    exact, x = block
    roulette = partial(Roulette, 1, 2, distribution, rate, 1, probes, gradients)
    layer, n, rounds = twin(exact, roulette), 1000, 20
    (_, truth), values, found = exact(x[:1]), [], []
    torch.manual_seed(0)
    for _ in range(rounds):
        _, log_det = layer(x[:1].expand(n, D))
        values.append(log_det.detach())
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(log_det.mean(), list(layer.parameters())[:3])]))
    values, found = torch.cat(values), torch.stack(found)
    assert values.std() > 0.01 and abs(values.mean() - truth) < 4 * values.std() / (n * rounds) ** 0.5
    right = torch.cat([g.flatten() for g in torch.autograd.grad(truth.sum(), list(exact.parameters())[:3])])
    error = found.std(0) / rounds**0.5
    assert ((found.mean(0) - right).abs() < 5.5 * error + 1e-12).all()  # of 20 rounds, so by Student's t
    assert right.norm() > 5 * error.norm()


def test_one_number_of_terms_serves_a_batch_in_training_and_is_unbiased_as_well(block):
    exact, x = block
    layer = twin(exact, partial(Roulette, 1, 2)).train()
    _, truth = exact(x[:1])
    torch.manual_seed(0)
    means = []
    with torch.no_grad():
        for _ in range(400):
            with ledger.noting() as notes:
                means.append(layer(x[:1].expand(50, D))[1].mean())
            assert notes["terms"][0].shape == (50,) and len(notes["terms"][0].unique()) == 1
    means = torch.stack(means)
    assert abs(means.mean() - truth) < 4 * means.std() / 20


def test_the_number_of_training_is_that_of_the_likelihood_whichever_gradient(block):
    exact, x = block
    keys, found = noise.mix(3, np.arange(len(x))), []
    for way in ("neumann", "series"):
        layer = twin(exact, partial(Roulette, gradients=way)).train()
        with noise.source(keys):
            found.append(layer(x)[1].detach())
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


def peak(layer: Residual, x: torch.Tensor) -> int:
    """The most bytes of saved tensors that lived at once, there and back; the net's own parameters apart."""
    now = most = 0
    weights = {p.data_ptr() for p in layer.parameters()}

    class Held:
        def __init__(self, value):
            self.value = value

    def gone(size):
        nonlocal now
        now -= size

    def pack(value):
        nonlocal now, most
        held, size = Held(value), 0 if value.data_ptr() in weights else value.numel() * value.element_size()
        now, most = now + size, max(most, now + size)
        weakref.finalize(held, gone, size)
        return held

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda held: held.value):
        z, log_det = layer(x)
        (z.square().sum() + log_det.sum()).backward()
    return most


@pytest.mark.parametrize("space", [Space((6,)), IMAGE])
def test_memory_does_not_grow_with_the_terms_of_a_neumann_series(space):
    x = torch.randn(50, *space.event, dtype=torch.float64)
    kept = {
        way: [peak(strong(space, partial(Truncated, n, gradients=way), depth=2), x) for n in (2, 20)]
        for way in ("neumann", "series")
    }
    assert kept["neumann"][1] == pytest.approx(kept["neumann"][0], rel=0.15)
    assert kept["series"][1] > 3 * kept["series"][0] and kept["series"][1] > 3 * kept["neumann"][1]


# -- norms -------------------------------------------------------------------------------------------------------------


def operator(part: Spectral, shape: tuple[int, ...], weight: torch.Tensor) -> torch.Tensor:
    basis = torch.eye(int(np.prod(shape)), dtype=weight.dtype).view(-1, *shape)
    return part.map(basis, weight).flatten(1).T


@pytest.mark.parametrize("kernel", [None, 1, 3])
def test_norms_are_those_of_the_whole_operator_at_its_size(kernel):
    torch.manual_seed(0)
    shape = (5,) if kernel is None else (3, 4, 5)
    options = 0.9, 5, 1e-8
    part = SpectralLinear(5, 7, *options) if kernel is None else SpectralConv(3, 6, kernel, (4, 5), *options)
    part = part.double().eval()
    for scale, norm in ((5.0, 0.9), (0.02, None)):
        with torch.no_grad():
            part.weight.copy_(scale * torch.randn_like(part.weight))
        part.refresh()
        whole = torch.linalg.matrix_norm(operator(part, shape, part.weight.detach()), 2)
        bounded = torch.linalg.matrix_norm(operator(part, shape, part.bounded().detach()), 2)
        assert float(bounded) == pytest.approx(norm or float(whole), rel=1e-5)
    assert torch.equal(part.bounded(), part.weight)  # what is small enough stays as it is
    with torch.no_grad():  # weights of 0 have no direction, and lose none
        part.weight.zero_()
    part.train().refresh()
    assert torch.autograd.grad(part.bounded().sum(), part.weight)[0].isfinite().all()
    with torch.no_grad():
        part.weight.normal_().mul_(5)
    for _ in range(60):
        part.refresh()
    assert float(torch.linalg.matrix_norm(operator(part, shape, part.bounded().detach()), 2)) == pytest.approx(0.9, rel=1e-5)


def test_norms_follow_training():
    """Adam moves all weights, a refresh of 5 rounds before each step: the true norms are held to some percent, closer
    after a thorough one."""
    torch.manual_seed(0)
    layer = Residual(Space((6,)), partial(Lipschitz, width=32, depth=2), Exact)
    optimizer = torch.optim.Adam(layer.parameters(), lr=3e-3)
    for _ in range(200):
        z, log_det = layer(torch.randn(64, 6))
        loss = 10 * z.square().mean() - log_det.mean()
        optimizer.zero_grad()
        loss.backward()
        layer.refresh()
        optimizer.step()
    assert max(float(torch.linalg.matrix_norm(part.weight.detach(), 2)) for part in layer.net.spectral) > 1.2
    for mode, slack in ((True, 1.06), (False, 1.005)):
        layer.train(mode).refresh()
        norms = [float(torch.linalg.matrix_norm(part.bounded().detach(), 2)) for part in layer.net.spectral]
        assert 0.97 < max(norms) < 0.98 * slack


@pytest.mark.parametrize("activation", [LipSwish, CLipSwish, nn.ELU])
@pytest.mark.parametrize("b", [-8.0, 0.5, 4.0])
def test_slopes_are_at_most_one(activation, b):
    layer, x = activation(), torch.linspace(-60, 60, 40_001, dtype=torch.float64).unsqueeze(1).requires_grad_()
    if activation is not nn.ELU:
        nn.init.constant_(layer.b, b)
    y = layer(x)
    slopes = torch.cat([torch.autograd.grad(part.sum(), x, retain_graph=True)[0] for part in y.unbind(1)], 1)
    assert slopes.norm(dim=1).max() <= 1 + 1e-6 and (b < 0 or slopes.norm(dim=1).max() > 0.9)
    if activation is not nn.ELU:
        y, (slope,) = layer.carry(x, torch.ones(1, 1, 1, dtype=torch.float64))
        torch.testing.assert_close(y, layer(x))
        torch.testing.assert_close(slope, slopes)


@pytest.mark.parametrize("net", [partial(Lipschitz, width=8, activation=nn.ELU), partial(LipschitzDenseNet, growth=6)])
@pytest.mark.parametrize("space", [SPACE, IMAGE])
def test_a_net_keeps_to_the_product_of_its_bounds(net, space):
    torch.manual_seed(0)
    model = disturb(net(space, depth=1), 2.0).double().eval()
    model.refresh()
    x = 3 * torch.randn(200, *space.event, dtype=torch.float64)
    y = x + 10 ** -torch.rand(200, *[1] * len(space.event), dtype=torch.float64) * torch.randn_like(x)
    ratio = (model(x) - model(y)).flatten(1).norm(dim=1) / (x - y).flatten(1).norm(dim=1)
    assert 0.02 < ratio.max() < 0.98**2


# -- the way back ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-14)])
def test_there_and_back_at_every_scale_of_rows(dtype, tolerance, scale):
    layer = strong(dtype=dtype)
    x = scale * torch.randn(50, D, dtype=dtype)
    with torch.no_grad():
        assert (layer.inverse(layer(x)[0]) - x).abs().max() <= tolerance * max(1.0, scale) * 5


def test_gradients_of_the_inverse_are_those_of_the_implicit_function(block):
    layer, x = block
    z = layer(x)[0].detach().requires_grad_()
    back = layer.inverse(z)
    for i in range(len(x)):
        rows = torch.stack([torch.autograd.grad(back[i, k], z, retain_graph=True)[0][i] for k in range(D)])
        expected = torch.linalg.inv(jacobian(layer, x[i]) + torch.eye(D, dtype=torch.float64))
        torch.testing.assert_close(rows, expected, rtol=1e-8, atol=1e-10)
    parameters = list(layer.parameters())
    found = torch.autograd.grad(back.sin().sum(), parameters)
    for parameter, value in zip(parameters, found, strict=True):
        ends = []
        for shift in (1e-6, -1e-6):
            with torch.no_grad():
                parameter.view(-1)[0] += shift
                ends.append(float(layer.inverse(z).sin().sum()))
                parameter.view(-1)[0] -= shift
        assert float(value.view(-1)[0]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-8)


def test_weights_that_norms_do_not_know_are_told_of():
    layer = strong(width=16)
    z = torch.randn(20, D, dtype=torch.float64)
    with torch.no_grad():
        for part in layer.net.spectral:
            part.u.copy_(torch.randn_like(part.u)), part.v.copy_(torch.randn_like(part.v))
        with pytest.raises(NoContraction, match=r"does not contract.*refresh\(\)"):
            layer.inverse(z)
        layer.refresh()
        x = layer.inverse(z)
        torch.testing.assert_close(layer(x)[0], z)


# -- what a flow says ----------------------------------------------------------------------------------------------------


def bent(trace=Exact, times=3) -> Flow:
    torch.manual_seed(0)
    layer = partial(Residual, net=partial(Lipschitz, width=16, depth=1, activation=nn.ELU), trace=trace)
    built = Flow(PLANE, partial(Repeat, parts=[layer], times=times), Gaussian)
    for number, part in enumerate(built.transform.parts):
        part.load_state_dict(strong(PLANE, seed=number, width=16, dtype=torch.float32).state_dict())
    return built.eval()


def test_a_density_of_the_plane_integrates_to_one():
    model, side = bent(), torch.linspace(-14, 14, 281)
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        log_prob = model.log_prob(grid)
    assert log_prob.exp().sum() * (side[1] - side[0]) ** 2 == pytest.approx(1, abs=0.01)
    assert (log_prob - Gaussian(PLANE).log_prob(grid)).abs().max() > 1


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_a_score_depends_on_its_own_row_alone(dtype, tolerance):
    model, x = bent(partial(Roulette, 2, 4)).to(dtype), torch.randn(512, 2, dtype=dtype)
    keys = noise.mix(0, np.arange(512))
    with torch.no_grad():
        with noise.source(keys), ledger.noting() as notes:
            whole = model.log_prob(x)
        with noise.source(keys[64:128]):
            part = model.log_prob(x[64:128])
        with noise.source(keys), noise.repeat(1):
            again = model.log_prob(x)
    torch.testing.assert_close(whole[64:128], part, rtol=tolerance, atol=tolerance)
    assert not torch.allclose(whole, again) and len(notes["terms"][0].unique()) > 3


def test_grades():
    grades = {trace: bent(trace).grade for trace in (Exact, Roulette, Truncated)}
    assert list(grades.values()) == ["exact", "estimate", "biased estimate"]
    layer = partial(Residual, net=partial(Lipschitz, width=4), trace=Truncated)
    integers = Flow(Space((2,), levels=4), partial(Chain, parts=[Uniform, layer]), Gaussian)
    assert integers.grade == "bound+biased estimate"
    with pytest.raises(Refused, match="would inflate"):
        integers.log_prob(torch.zeros(2, 2), num_samples=2)


@pytest.mark.parametrize("trace", [Exact, Roulette])
def test_inference_mode_is_no_obstacle(trace):
    model, x = bent(trace), torch.randn(5, 2)
    keys = noise.mix(0, np.arange(5))
    with noise.source(keys):
        expected = model.log_prob(x).detach()
    with torch.inference_mode():
        here = torch.cat([x])
        with noise.source(keys):
            torch.testing.assert_close(model.log_prob(here), expected)
        torch.testing.assert_close(model.decode(model.encode(here)), x, rtol=1e-5, atol=1e-5)
        assert torch.isfinite(model.sample_with_log_prob(4)[1]).all()
    with torch.no_grad():
        assert not model.log_prob(x).requires_grad


def test_samples_carry_the_log_prob_that_the_way_there_gives_them():
    model = bent().double()
    x, log_prob = model.sample_with_log_prob(50)
    torch.testing.assert_close(model.log_prob(x), log_prob, rtol=1e-9, atol=1e-9)
    assert torch.autograd.grad(log_prob.sum(), model.transform.parts[0].net.maps[0].weight)[0].norm() > 0


def test_a_compiled_flow_learns_and_refreshes_as_any_other():
    x, found = torch.randn(16, 2), []
    keys = noise.mix(0, np.arange(16))
    for compiled in (False, True):
        model = bent(partial(Roulette, 2, 4)).train()
        if compiled:
            model.transform.compile(backend="eager")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            with noise.source(keys):
                loss = -model.log_prob(x).mean()
            optimizer.zero_grad()
            loss.backward()
            model.refresh()
            optimizer.step()
        found.append([value.clone() for value in model.state_dict().values()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


# -- what a run keeps ----------------------------------------------------------------------------------------------------

TINY = ("flow=resflow_mlp", "data=moons", "trace=roulette", "data.train_size=1000", "data.test_size=100", "size.width=8")
TINY += ("size.steps=2", "callbacks=[ema,checkpoints]", "optimizer.lr=1e-2")
BACK = """
import sys, torch
from laminar.training.checkpoint import load
flow, _ = load(sys.argv[1])
x = flow.sample(200)
assert (flow.decode(flow.encode(x)) - x).abs().max() < 1e-4
"""


def test_a_run_that_was_stopped_goes_on_as_if_not_and_opens_in_another_process(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    numbers = run(prepared(whole, *TINY, "trainer.max_steps=8"), whole)
    assert numbers["grade"] == "estimate" and numbers["test/terms"] >= 20
    run(prepared(parts, *TINY, "trainer.max_steps=4"), parts)
    resume(parts, ["trainer.max_steps=8"])
    assert_same_run(whole, parts)
    for name in ("last", "best"):
        one, other = (read(folder / "checkpoints" / f"{name}.ckpt")["state_dict"] for folder in (whole, parts))
        assert any(key.endswith(".u") for key in one)
        assert_same(one, other)
    flow, _ = load(parts)
    for part in flow.modules():
        if isinstance(part, Spectral):
            assert float(torch.linalg.matrix_norm(part.bounded().detach(), 2)) < 0.98 * 1.001
    subprocess.run([sys.executable, "-c", BACK, str(parts)], check=True)


# -- what cannot work ----------------------------------------------------------------------------------------------------


def test_what_cannot_work_is_refused():
    net = partial(Lipschitz, width=4)
    refuses(lambda: Residual(SPACE, partial(net, coefficient=1.0), Exact), r"net\.coefficient=1.0 .*below 1")
    refuses(lambda: Residual(SPACE, partial(net, coefficient=0.0), Exact), r"net\.coefficient=0.0")
    refuses(lambda: Residual(SPACE, partial(net, iterations=0), Exact), r"net\.iterations=0")
    refuses(lambda: Residual(SPACE, net, Hutchinson), "choose trace=roulette")
    refuses(lambda: Residual(IMAGE, ConvNet, Exact), "net=convnet has no bounded slope.*net=lipschitz")
    refuses(lambda: Residual(CIFAR, net, Exact), "trace=exact.*trace=roulette")
    refuses(lambda: Lipschitz(SPACE, SPACE, 2), "only layer=residual|no other layer")
    refuses(lambda: Lipschitz(SPACE, depth=0), r"size\.depth=0")
    refuses(lambda: Lipschitz(SPACE, width=5, activation=CLipSwish), r"size\.width=5 a multiple of 2")
    refuses(lambda: LipschitzDenseNet(SPACE, growth=5), r"net\.growth=5 a multiple of 2")
    refuses(lambda: Truncated(0), r"trace\.terms=0")
    refuses(lambda: Truncated(gradients="exact"), r"trace\.gradients is neumann or series")
    refuses(lambda: Roulette(-1), r"trace\.exact_terms=-1")
    refuses(lambda: Roulette(distribution="normal"), "poisson or geometric")
    refuses(lambda: Roulette(distribution="geometric", rate=1.5), "between 0 and 1")
    refuses(lambda: Roulette(rate=-1.0), "above 0")
    assert issubclass(Lipschitz, Contraction)
