"""The likelihood of the stored values themselves, against enumeration, quadrature and closed forms."""

from functools import partial
from itertools import product
from math import log

import numpy as np
import pytest
import torch
from recipes import affine, conv, coupling, disturb, mlp, step
from torch import nn

from laminar.flows import noise
from laminar.flows.compose.chain import Chain
from laminar.flows.compose.inverse import Inverse
from laminar.flows.compose.multiscale import Multiscale
from laminar.flows.context.given import Given
from laminar.flows.context.label import Label
from laminar.flows.dequantization.none import Reals
from laminar.flows.dequantization.uniform import Uniform
from laminar.flows.dequantization.variational import Variational
from laminar.flows.flow import Flow
from laminar.flows.initialise import initialising
from laminar.flows.layer.elementwise import Elementwise
from laminar.flows.mask.checkerboard import Checkerboard
from laminar.flows.mask.halves import Halves
from laminar.flows.mask.parity import Parity
from laminar.flows.mask.scheme import Scheme
from laminar.flows.norm.actnorm import ActNorm
from laminar.flows.norm.batchnorm import BatchNorm
from laminar.flows.numerics import bits_per_dim
from laminar.flows.preprocessing.affine import Affine as AffinePreprocessing
from laminar.flows.preprocessing.logit import Logit
from laminar.flows.preprocessing.none import Identity
from laminar.flows.preprocessing.sigmoid import Sigmoid
from laminar.flows.prior.gaussian import Gaussian
from laminar.flows.prior.logistic import Logistic
from laminar.flows.prior.uniform import Uniform as UniformPrior
from laminar.flows.space import Space
from laminar.refused import Refused

TINY = Space((2,), levels=4)
vector_steps = partial(Multiscale, scheme=Scheme([[partial(Parity), 3]]), step=step(net=mlp))


def flow_of(space, *parts, prior=Gaussian, scale=0.5, **options) -> Flow:
    torch.manual_seed(0)
    flow = Flow(space, transform=partial(Chain, parts=list(parts)), prior=prior, **options)
    return disturb(flow, scale).double().eval()


def variational(space):
    q = partial(
        Flow,
        prior=Gaussian,
        context=Given,
        transform=partial(
            Inverse,
            transform=partial(
                Chain,
                parts=[
                    partial(step(net=mlp), mask=Parity),
                    partial(step(net=mlp), mask=partial(Parity, flip=True)),
                    Sigmoid,
                ],
            ),
        ),
    )
    return Variational(space, flow=q)


def enumerated(space: Space) -> torch.Tensor:
    """Every event of a tiny discrete vector space."""
    return torch.tensor(list(product(range(space.levels), repeat=space.size)), dtype=torch.uint8)


def integrated(flow: Flow, points: int = 400) -> torch.Tensor:
    """P(x) of every x of ``TINY``: the density behind the dequantizer, integrated over the cube by the midpoint rule."""
    x = enumerated(TINY).double()
    grid = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    u = torch.cartesian_prod(grid, grid)
    probabilities = []
    for row in x:
        z = row + u
        total = torch.zeros(len(z), dtype=torch.float64)
        for part in flow.transform.parts[1:]:
            z, contribution = part(z)
            total = total + contribution
        probabilities.append((flow.prior.log_prob(z) + total).exp().mean())
    return torch.stack(probabilities).detach()


@pytest.mark.parametrize("levels", [2, 17, 32, 256])
def test_the_uniform_model_scores_num_bits_exactly(levels):
    space = Space((3, 4, 4), levels=levels)
    flow = flow_of(space, Uniform, partial(AffinePreprocessing, low=0.0, high=1.0), prior=UniformPrior)
    x = torch.randint(0, levels, (64, *space.event), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    bpd = bits_per_dim(flow.log_prob(x), space.size)
    torch.testing.assert_close(bpd, torch.full_like(bpd, space.num_bits), rtol=1e-12, atol=1e-12)


def test_probabilities_of_a_tiny_space_sum_to_one_without_a_margin():
    flow = flow_of(TINY, Uniform, partial(Logit, alpha=0.0), vector_steps)
    assert integrated(flow).sum().item() == pytest.approx(1.0, abs=1e-3)
    assert flow.leak(20_000) == 0.0


def test_with_a_margin_what_is_missing_is_the_leak():
    flow = flow_of(TINY, Uniform, partial(Logit, alpha=0.05), vector_steps)
    torch.manual_seed(0)
    missing = 1.0 - integrated(flow).sum().item()
    n = 200_000
    assert missing > 0.01
    assert flow.leak(n) == pytest.approx(missing, abs=5 * (missing / n) ** 0.5)


@pytest.mark.parametrize("dequantization", [Uniform, variational], ids=["uniform", "variational"])
def test_more_samples_tighten_the_bound_from_below(dequantization):
    flow = flow_of(TINY, dequantization, partial(Logit, alpha=0.05), vector_steps, scale=0.4)
    x, exact = enumerated(TINY), integrated(flow).log()
    rows, target = x.repeat(200, 1), exact.repeat(200)
    torch.manual_seed(1)
    with torch.no_grad():
        gaps = {k: target - flow.log_prob(rows, num_samples=k, chunk=100_000) for k in (1, 8, 64)}
    mean = {k: gap.mean().item() for k, gap in gaps.items()}
    error = {k: gap.std().item() / len(gap) ** 0.5 for k, gap in gaps.items()}
    assert mean[1] > mean[8] + 3 * error[1] > mean[64] > -3 * error[64]
    assert mean[64] < 0.15 * mean[1]
    # An importance weight is an unbiased estimate of P(x), whatever q is.
    weights = flow.log_weights(x, num_samples=20_000, chunk=64_000).exp().detach()
    deviation = (weights.mean(0) - exact.exp()) / (weights.std(0) / len(weights) ** 0.5)
    assert deviation.abs().max() < 4.5


def test_variational_dequantization_is_a_density_on_the_cube():
    part = disturb(variational(TINY), 0.5).double().eval()
    x = torch.tensor([[1.0, 3.0]], dtype=torch.float64)
    side = torch.linspace(-25, 25, 500, dtype=torch.float64)
    v = torch.cartesian_prod(side, side)  # integrates over logit(u), where nothing is steep
    u = torch.sigmoid(v)
    context = {"image": (x / 4 - 0.5).expand(len(u), -1)}
    z, contribution = part.flow.transform(u, context)
    log_volume = (nn.functional.logsigmoid(v) + nn.functional.logsigmoid(-v)).sum(1)
    density = (part.flow.prior.log_prob(z) + contribution + log_volume).exp()
    assert (density.sum() * (side[1] - side[0]) ** 2).item() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("prior", [Gaussian, Logistic])
def test_densities_in_the_plane_integrate_to_one(prior):
    flow = flow_of(Space((2,)), Reals, vector_steps, prior=prior)
    side = torch.linspace(-25, 25, 1001, dtype=torch.float64)
    density = flow.log_prob(torch.cartesian_prod(side, side)).exp()
    assert (density.sum() * (side[1] - side[0]) ** 2).item() == pytest.approx(1.0, abs=1e-3)


def test_what_was_sampled_scores_what_sampling_said():
    flow = flow_of(Space((6,)), Reals, vector_steps)
    x, log_prob = flow.sample_with_log_prob(64)
    torch.testing.assert_close(flow.log_prob(x), log_prob, rtol=1e-9, atol=1e-9)
    (gradient,) = torch.autograd.grad(log_prob.sum(), flow.transform.parts[1].bodies[0].parts[0].coupling.net.head.bias)
    assert gradient.abs().sum() > 0
    assert flow.grade == "exact"


def test_a_stochastic_flow_does_not_score_while_sampling():
    flow = flow_of(TINY, Uniform, Logit, vector_steps)
    assert flow.grade == "bound"
    with pytest.raises(Refused, match=r"draws on its way.*flow\.density\(\)"):
        flow.sample_with_log_prob(2)


def test_integers_come_back_exactly():
    space = Space((1, 4, 4), levels=256)
    body = partial(Multiscale, scheme=Scheme([[partial(Checkerboard), 4]]), step=step(net=conv))
    flow = flow_of(space, Uniform, Logit, body)
    x = torch.randint(0, 256, (50, *space.event), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    x[0], x[1] = 0, 255
    assert torch.equal(flow.decode(flow.encode(x)), x)
    flow.float()  # where noise may lie so close to an integer that rounding passes it; its centre does not
    assert torch.equal(flow.decode(flow.encode(x, mean=True)), x)
    assert torch.equal(flow.encode(x, mean=True), flow.encode(x, mean=True))
    samples = flow.sample(7, temperature=0.7)
    assert samples.shape == (7, 1, 4, 4) and samples.dtype == torch.uint8


def test_noise_belongs_to_the_example_not_to_the_batch():
    flow = flow_of(TINY, Uniform, Logit, vector_steps)
    x = enumerated(TINY)
    keys = noise.mix(0, 1, 2, np.arange(len(x)))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    for k in (1, 6):
        with noise.source(keys):
            together = flow.log_prob(x, num_samples=k)
        torch.rand(5)  # what happens elsewhere does not matter
        with noise.source(keys[order.numpy()]):
            shuffled = flow.log_prob(x[order], num_samples=k, chunk=1000)
        torch.testing.assert_close(shuffled, together[order], rtol=1e-12, atol=1e-12)
    with noise.source(noise.mix(0, 1, 3, np.arange(len(x)))):
        assert not torch.equal(flow.log_prob(x), together)


def test_uniform_noise_is_uniform():
    with noise.source(noise.mix(0, np.arange(2000))):
        u = noise.uniform(torch.empty(2000, 10, dtype=torch.float64))
        more = noise.uniform(torch.empty(2000, 10, dtype=torch.float64))
    assert abs(u.mean().item() - 0.5) < 4 * (1 / 12 / 20_000) ** 0.5
    assert abs(((u - 0.5) * (more - 0.5)).mean().item()) < 4 / 12 / 20_000**0.5
    assert u.min() >= 0 and u.max() < 1


def test_dequantized_values_stay_below_the_next_integer():
    part = Uniform(Space((1,), levels=256))

    class _Top:
        def draw(self, kind, like):
            return torch.full_like(like, 1.0)

    with noise._opened(_Top()):
        z, _ = part(torch.arange(256, dtype=torch.uint8)[:, None])
    assert torch.equal(part.inverse(z), torch.arange(256, dtype=torch.uint8)[:, None]) and z.max() < 256


def test_batch_statistics_are_frozen_for_many_samples():
    flow = flow_of(TINY, Uniform, Logit, BatchNorm, vector_steps).train()
    norm = flow.transform.parts[2]
    before = norm.running_mean.clone()
    flow.log_prob(enumerated(TINY), num_samples=4)
    assert torch.equal(norm.running_mean, before) and norm.training
    flow.log_prob(enumerated(TINY))
    assert not torch.equal(norm.running_mean, before)


def test_labels_reach_every_part():
    space = Space((2,), levels=4, context={"label": (3,)})
    top = partial(Elementwise, law=affine, conditional=True)
    flow = flow_of(space, variational, Logit, vector_steps, top, context=Label)
    x, label = enumerated(TINY), torch.zeros(16, dtype=torch.int64)
    assert flow.conditional

    def scores(label):
        with noise.centre():
            return flow.log_prob(x, {"label": label})

    assert (scores(label) != scores(label + 1)).all()
    for module in (flow.transform.parts[0].flow, flow.transform.parts[2]):
        assert "label" in module.get_submodule(next(n for n, _ in module.named_modules() if n.endswith("net"))).seen.context
    with pytest.raises(Refused, match="conditional"):
        flow.log_prob(x)
    plain = flow_of(space, Uniform, Logit, vector_steps)
    assert not plain.conditional and plain.transform.parts[2].domain.context == {}


def refusal(make) -> str:
    with pytest.raises(Refused) as caught:
        make()
    return str(caught.value)


def test_refusals_name_the_option_and_the_cure():
    assert "dequantization=uniform" in refusal(lambda: flow_of(TINY, Reals, vector_steps))
    assert "dequantization=none" in refusal(lambda: flow_of(Space((2,)), Uniform, vector_steps))
    assert "dequantization=none" in refusal(lambda: flow_of(Space((2,)), variational, vector_steps))
    assert "preprocessing=none" in refusal(lambda: flow_of(Space((2,)), Reals, Logit, vector_steps))
    for parts in ([vector_steps], [Identity], [ActNorm, vector_steps]):
        assert "${dequantization}" in refusal(lambda parts=parts: flow_of(TINY, *parts))
    assert "context=none" in refusal(lambda: flow_of(TINY, Uniform, context=Label))
    flow = flow_of(TINY, Uniform, Logit, vector_steps)
    assert "at least 1" in refusal(lambda: flow.log_prob(enumerated(TINY), num_samples=0))
    assert "temperature" in refusal(lambda: flow.sample(2, temperature=0.0))


def test_shared_parameters_are_refused():
    shared = nn.PReLU()

    def net(seen, asked, arity):
        from laminar.flows.net.mlp import MLP

        return MLP(seen, asked, arity, width=4, depth=1, activation=lambda: shared)

    body = partial(Multiscale, scheme=Scheme([[partial(Halves), 2]]), step=partial(step(), layer=coupling(net=net)))
    assert "_partial_: true" in refusal(
        lambda: Flow(Space((2,)), transform=partial(Chain, parts=[Reals, body]), prior=Gaussian)
    )


def test_noisy_flows_refuse_many_samples():
    class Noisy(Reals):
        stochastic = noisy = True

    flow = flow_of(Space((2,)), Noisy)
    assert flow.grade == "bound+estimate"
    assert "num_samples=1" in refusal(lambda: flow.log_prob(torch.zeros(2, 2), num_samples=4))


def test_log_prob_of_a_linear_gaussian_is_the_closed_form():
    from laminar.flows.mix.conv1x1 import Conv1x1

    flow = flow_of(Space((3,)), Reals, Conv1x1)
    x = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    w = flow.transform.parts[1].matrix
    covariance = torch.linalg.inv(w.T @ w)
    expected = torch.distributions.MultivariateNormal(torch.zeros(3, dtype=torch.float64), covariance).log_prob(x)
    torch.testing.assert_close(flow.log_prob(x), expected, rtol=1e-9, atol=1e-9)
    assert flow.log_prob(torch.zeros(1, 3)).item() == pytest.approx(
        -1.5 * log(2 * np.pi) + torch.linalg.slogdet(w)[1].item(), abs=1e-9
    )


@pytest.mark.parametrize("per", ["channel", "element"])
def test_actnorm_starts_by_normalising_one_batch_and_only_once(per):
    norm = ActNorm(Space((3, 4, 4)), per=per).double()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, 3, 4, 4, generator=generator, dtype=torch.float64) * 5 + 2
    over = (0, 2, 3) if per == "channel" else 0
    with initialising():
        z, _ = norm(x)
        norm(10 * x)
    torch.testing.assert_close(z.mean(over), torch.zeros_like(z.mean(over)), atol=1e-10, rtol=0)
    torch.testing.assert_close(z.std(over, correction=0), torch.ones_like(z.mean(over)), atol=1e-10, rtol=0)
    again = ActNorm(Space((3, 4, 4)), per=per).double()
    again.load_state_dict(norm.state_dict())
    with initialising():
        torch.testing.assert_close(again(x)[0], z)
