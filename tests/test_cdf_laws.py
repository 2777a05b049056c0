"""Laws that are sums: mixture CDFs, sigmoids and integrals against scipy, far into their tails, and onto what they claim."""

from functools import partial

import numpy as np
import pytest
import torch
from pages import composed
from scipy import integrate, special, stats
from torch.nn.functional import softplus

from laminar.config.recipe import build
from laminar.flows import numerics
from laminar.flows.coupling import mixture_gaussian, mixture_logistic
from laminar.flows.coupling.deep_sigmoid import DeepSigmoid
from laminar.flows.coupling.dense_deep_sigmoid import DenseDeepSigmoid
from laminar.flows.coupling.integral import Integral, clenshaw_curtis
from laminar.flows.coupling.mixture_gaussian import MixtureGaussian, halves, log_quantile
from laminar.flows.coupling.mixture_logistic import MixtureLogistic
from laminar.flows.layer.elementwise import Elementwise
from laminar.flows.space import Space
from laminar.refused import Refused

FAMILIES = {"gaussian": (MixtureGaussian, stats.norm), "logistic": (MixtureLogistic, stats.logistic)}
ONTO_REALS = {
    "mixture_gaussian": partial(MixtureGaussian, 5),
    "mixture_logistic": partial(MixtureLogistic, 5),
    "deep_sigmoid": DeepSigmoid,
    "dense_deep_sigmoid": DenseDeepSigmoid,
    "integral": partial(Integral, embedding=4, width=8),
}
every_family = pytest.mark.parametrize("family", FAMILIES)
precisions = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(11)


def started(law, n=1, noise=0.0, dtype=torch.float64):
    """A law's starting parameters and what it shares, disturbed, for n elements with the same."""
    start = law.start(torch.Generator().manual_seed(2)).to(dtype)
    start = start + noise * torch.randn_like(start)
    params, shared = start.split([law.arity, law.shared])
    return params.view(1, -1, 1).expand(1, -1, n), shared.view(-1, 1) if law.shared else None


def mixture(params, components, family):
    """A mixture of scipy's from a single element's parameters: weights, and a frozen distribution of K."""
    logits, mean, log_scale = params[0, -3 * components :, 0].double().numpy().reshape(3, components)
    return special.log_softmax(logits)[:, None], family(mean[:, None], np.exp(log_scale)[:, None])


@every_family
@precisions
def test_logs_of_the_mixture_are_scipys_up_to_40_deviations(family, dtype):
    kind, known = FAMILIES[family]
    law = kind(4)
    params = torch.randn(1, law.arity, 1, dtype=dtype)
    log_weight, parts = mixture(params, 4, known)
    x = torch.cat([torch.linspace(-3, 3, 61), torch.tensor([-40.0, -13, 13, 40])]).to(dtype)
    ours = law.logs(x[None], *law._components(params))
    theirs = (
        special.logsumexp(log_weight + log(x.double().numpy()), axis=0) for log in (parts.logcdf, parts.logsf, parts.logpdf)
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(
            a[0].double(), b, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=torch.finfo(dtype).eps
        )


@every_family
@precisions
def test_onto_the_unit_interval_is_the_cdf_and_never_its_ends(family, dtype):
    kind, known = FAMILIES[family]
    law = kind(4, onto="unit")
    assert law.arity == 12 and law.onto(Space((3,))).top == 1 and kind(4).onto(Space((3,), upper=1.0)).top is None
    params = torch.randn(1, 12, 1, dtype=dtype)
    x = torch.cat([torch.linspace(-5, 5, 101), torch.tensor([-1e4, 1e4])]).to(dtype)
    log_weight, parts = mixture(params, 4, known)
    y, log_slope = law(x[None], params.expand(1, -1, 103))
    eps = torch.finfo(dtype).eps
    np.testing.assert_allclose(
        y[0].double(), np.exp(log_weight + parts.logcdf(x.double().numpy())).sum(0), rtol=0, atol=4 * eps
    )
    assert (y >= torch.finfo(dtype).tiny).all() and (y <= 1 - eps / 2).all() and y[0, -1] < 1 and y[0, -2] > 0
    expected = special.logsumexp(log_weight + parts.logpdf(x.double().numpy()), axis=0)
    np.testing.assert_allclose(log_slope[0].double(), expected, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=4 * eps)


@every_family
@precisions
@pytest.mark.parametrize("x", [-40.0, -9.0, 0.0, 9.0, 40.0])
def test_gradients_at_40_deviations_are_finite_and_pass_no_clamp(family, dtype, x):
    law = FAMILIES[family][0](3, onto="unit")
    params = started(law, dtype=dtype)[0].clone().requires_grad_()
    x = torch.full((1, 1), x, dtype=dtype, requires_grad=True)
    y, log_slope = law(x, params)
    back = law.inverse(y.detach().requires_grad_(), params)
    for output in (y, log_slope, back):
        assert output.isfinite().all()
        for gradient in torch.autograd.grad(output.sum(), (x, params), retain_graph=True, allow_unused=True):
            assert gradient is None or gradient.isfinite().all()
    if x:  # the density falls off, however far out: as -z for a Gaussian, as -1 for a logistic
        (fall,) = torch.autograd.grad(log_slope.sum(), x)
        assert -fall.item() * x.sign().item() > 0.5


@every_family
def test_onto_the_unit_interval_goes_back_where_the_ends_leave_room(family):
    law = FAMILIES[family][0](4, onto="unit")
    params = torch.randn(50, 12, 6, dtype=torch.float64)
    y = torch.rand(50, 6, dtype=torch.float64)
    y[0] = torch.tensor([0.0, 1.0, 1e-300, 1e-20, 1 - 1e-10, 0.5])  # what a prior may draw, its ends included
    x = law.inverse(y, params)
    assert x.isfinite().all()
    torch.testing.assert_close(law(x, params)[0], y.clamp(torch.finfo(y.dtype).tiny), rtol=1e-10, atol=1e-15)


@every_family
def test_samples_by_the_unit_inverse_are_the_mixtures_and_their_gradient_is_the_quantiles(family):
    kind, known = FAMILIES[family]
    law = kind(3, onto="unit")
    params = torch.randn(1, 9, 1, dtype=torch.float64)
    log_weight, parts = mixture(params, 3, known)
    draws = law.inverse(torch.rand(1, 4000, dtype=torch.float64), params.expand(1, -1, 4000))
    assert stats.kstest(draws[0].numpy(), lambda x: np.exp(log_weight + parts.logcdf(x)).sum(0)).pvalue > 1e-3
    # Far out too, where the slope is far below what ``implicit`` would take for a plateau of y itself.
    y = torch.tensor([[1e-12, 1e-3, 0.7]], dtype=torch.float64, requires_grad=True)
    x = law.inverse(y, params.expand(1, -1, 3))
    (rise,) = torch.autograd.grad(x.sum(), y)
    density = np.exp(log_weight + parts.logpdf(x.detach()[0].numpy())).sum(0)
    np.testing.assert_allclose(rise[0].numpy() * density, 1, rtol=1e-8)


def test_gaussian_logs_and_quantiles_are_scipys_to_any_depth():
    z = torch.tensor([-1e7, -1e4, -100.0, -40, -13, -5, -1, -1e-9, 0, 1e-3, 1, 5, 13, 40], dtype=torch.float64)
    right, _, tail, body = halves(z)
    ours = torch.where(right, body, tail).numpy()
    np.testing.assert_allclose(ours, stats.norm.logcdf(z.numpy()), rtol=1e-13)
    log_p = torch.cat([-torch.logspace(-0.15, 14, 200, dtype=torch.float64), z.new_tensor([-49.9, -50.1])])
    np.testing.assert_allclose(log_quantile(log_p), special.ndtri_exp(log_p.numpy()), rtol=1e-12)
    log_p.requires_grad_()
    q = log_quantile(log_p)
    (rise,) = torch.autograd.grad(q.sum(), log_p)
    expected = np.exp(stats.norm.logcdf(q.detach()) - stats.norm.logpdf(q.detach()))
    np.testing.assert_allclose(rise[:80], expected[:80], rtol=1e-8)  # beyond, the quotient of scipy's is rounding
    np.testing.assert_allclose(rise[80:-2], -1 / q.detach()[80:-2], rtol=1e-3)


@precisions
def test_one_standard_gaussian_is_the_identity_wherever_it_is(dtype):
    law = MixtureGaussian(1)
    x = torch.tensor([[-1e4, -40, -7, -0.3, 0, 1e-3, 2, 7, 40, 1e4]], dtype=dtype)
    y, log_slope = law(x, started(law, 10, dtype=dtype)[0])
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(y, x, rtol=8 * eps, atol=4 * eps)
    assert log_slope.abs().max() < 8 * eps


def test_a_mixture_onto_the_reals_is_its_quantile_transform():
    law = MixtureGaussian(4)
    params = torch.randn(1, 14, 1, dtype=torch.float64)
    log_weight, parts = mixture(params, 4, stats.norm)
    x = torch.linspace(-8, 8, 200, dtype=torch.float64)
    q = np.where(
        (upper := (np.exp(log_weight + parts.logsf(x.numpy()))).sum(0)) < 0.5,
        -special.ndtri_exp(special.logsumexp(log_weight + parts.logsf(x.numpy()), axis=0)),
        special.ndtri_exp(special.logsumexp(log_weight + parts.logcdf(x.numpy()), axis=0)),
    )
    assert 0 < upper.min() < upper.max() < 1
    y, log_slope = law(x[None], params.expand(1, -1, 200))
    a, b = params[0, 0, 0].tanh().item(), params[0, 1, 0].item()
    np.testing.assert_allclose(y[0], q * np.exp(a) + b, rtol=1e-12, atol=1e-12)
    log_density = special.logsumexp(log_weight + parts.logpdf(x.numpy()), axis=0)
    np.testing.assert_allclose(log_slope[0], log_density - stats.norm.logpdf(q) + a, atol=1e-11)


def test_deep_sigmoid_is_the_papers_and_loses_no_tail():
    law = DeepSigmoid(5)
    params, x = torch.randn(20, 15, 3, dtype=torch.float64), torch.randn(20, 3, dtype=torch.float64)
    a, b, w = softplus(params[:, :5]) + 1e-6, params[:, 5:10], params[:, 10:].softmax(1)
    torch.testing.assert_close(law(x, params)[0], torch.logit((w * torch.sigmoid(a * x[:, None] + b)).sum(1)))


def test_dense_deep_sigmoid_is_naf_with_its_numbers_of_parameters():
    assert (DenseDeepSigmoid().arity, DenseDeepSigmoid().shared) == (113, 544)
    law = DenseDeepSigmoid(3, 4)
    x, params = torch.randn(6, 2, dtype=torch.float64), torch.randn(6, law.arity, 2, dtype=torch.float64)
    shared = torch.randn(law.shared, 2, dtype=torch.float64)

    def value(x, params, shared):
        h = x[None]
        for inputs, outputs in zip(law.sizes, law.sizes[1:], strict=False):
            a, b, w, u, params = params.split([4, 4, 4, inputs, len(params) - 12 - inputs])
            U, W, shared = shared.split([4 * inputs, 4 * outputs, len(shared) - 4 * (inputs + outputs)])
            z = (softplus(a) + 1e-6) * ((U.view(4, inputs) + u).softmax(1) @ h) + b
            h = torch.logit((W.view(outputs, 4) + w).softmax(1) @ torch.sigmoid(z))
        return h[0]

    def expected(shared):
        return torch.stack([torch.stack([value(x[i, j], params[i, :, j], shared[:, j]) for j in (0, 1)]) for i in range(6)])

    torch.testing.assert_close(law(x, params, shared)[0], expected(shared))  # each element has its own tables
    alike = shared[:, :1]
    torch.testing.assert_close(law(x, params, alike)[0], expected(alike.expand(-1, 2)))
    torch.testing.assert_close(law.inverse(law(x, params, shared)[0], params, shared), x)


@pytest.mark.parametrize("name", ONTO_REALS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-11)])
def test_round_trip_at_30_and_far_beyond(name, dtype, tolerance):
    law = ONTO_REALS[name]()
    x = torch.tensor([[-1e4, -300, -30, -10, -1, 0, 1, 10, 30, 300, 1e4]], dtype=dtype)
    params, shared = started(law, 11, 0.3, dtype)
    y, log_slope = law(x, params, shared)
    assert (y.diff() > 0).all() and log_slope.isfinite().all()
    assert ((law.inverse(y, params, shared) - x).abs() / x.abs().clamp(min=1)).max() < tolerance
    assert law.inverse(30 * torch.randn(1, 11, dtype=dtype), params, shared).isfinite().all()


@pytest.mark.parametrize("name", ONTO_REALS)
def test_no_mass_is_lost(name):
    """Under a logistic, whose tails are the sigmoids' own, the density integrates to 1; so it does for a crude quadrature."""
    law = Integral(4, 8, nodes=3) if name == "integral" else ONTO_REALS[name]()
    x = torch.linspace(-400, 400, 160_001, dtype=torch.float64)[None]
    params, shared = started(law, 1, 0.2)
    y, log_slope = law(x, params.expand(1, -1, x.shape[1]), shared)
    log_density = -y.abs() - 2 * torch.log1p(torch.exp(-y.abs())) + log_slope
    assert torch.trapezoid(log_density.exp(), x).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("n", [1, 2, 7, 20, 50])
def test_clenshaw_curtis_integrates_polynomials_of_its_degree(n):
    nodes, shares = clenshaw_curtis(n, torch.zeros((), dtype=torch.float64))
    assert len(nodes) == n + 1 and (shares > 0).all()
    for power in range(n + 1):
        assert (shares @ nodes**power).item() == pytest.approx(1 / (power + 1), rel=1e-12)


def test_integral_is_the_integral_of_its_net():
    law = Integral(embedding=3, width=6, depth=2, nodes=40)
    params, shared = started(law, 1, 0.2)
    layers = shared[:, 0].split([24, 6, 36, 6, 6, 1])

    def g(t):
        h = torch.cat([params.new_tensor([t]), params[0, :, 0]])
        for weight, bias in zip(layers[:4:2], layers[1:4:2], strict=True):
            h = torch.tanh(h @ weight.view(-1, 6) + bias)
        return softplus(h @ layers[4] + layers[5] + np.log(np.expm1(1 - 1e-3))).item() + 1e-3

    for x in (-3.0, 0.4, 2.5):
        y, log_slope = law(params.new_tensor([[x]]), params, shared)
        assert y.item() == pytest.approx(integrate.quad(g, 0, x, epsabs=1e-12)[0] + params[0, 0, 0].item(), abs=1e-10)
        assert log_slope.item() == pytest.approx(np.log(g(x)), abs=1e-8)  # that of the sum, which stands for the integral


@pytest.mark.parametrize("name", ["mixture_gaussian", "deep_sigmoid", "dense_deep_sigmoid"])
def test_components_start_apart_and_move_apart(name):
    law = ONTO_REALS[name]()
    params, shared = started(law)
    params = params.repeat(100, 1, 2).requires_grad_()
    y, log_slope = law(torch.randn(100, 2, dtype=torch.float64), params, shared)
    (gradient,) = torch.autograd.grad((y.square() / 2 - log_slope).sum(), params)
    gradient, first = gradient.sum((0, 2)), 2 if name == "mixture_gaussian" else 0
    count = law.width if name == "dense_deep_sigmoid" else law.components
    for group in gradient[first : first + 3 * count].view(3, count):
        if group.any():
            assert ((group[:, None] - group).abs() + torch.eye(count)).min() > 0


def test_the_tables_between_dense_sigmoids_start_uneven():
    law = DenseDeepSigmoid()
    shared = law.start(torch.Generator().manual_seed(0))[law.arity :]
    assert 0 < shared.abs().max() <= 1e-3 and len(shared.unique()) > 500


@pytest.mark.parametrize("name", ONTO_REALS)
def test_the_way_back_takes_few_evaluations_and_never_many(name, monkeypatch):
    counts = []

    def counting(f, *bracket):
        counts.append(0)

        def counted(x):
            counts[-1] += 1
            return f(x)

        return root(counted, *bracket)

    root = numerics.find_root
    for module in (numerics, mixture_gaussian, mixture_logistic):
        monkeypatch.setattr(module, "find_root", counting)
    law = ONTO_REALS[name]()
    params, shared = started(law, 300, 0.3, torch.float32)
    law.inverse(torch.randn(1, 300), params, shared)
    assert counts == [counts[0]] and counts[0] <= 24
    if name != "integral":
        for scale in (5, 50):
            params = scale * (2 * torch.rand(100, law.arity, 3) - 1)
            shared = scale * (2 * torch.rand(law.shared, 1) - 1) if law.shared else None
            law.inverse(torch.randn(100, 3), params, shared)
            law.inverse(torch.randn(100, 3).double(), params.double(), shared if shared is None else shared.double())
    assert max(counts[::2]) <= 80 and max(counts[1::2], default=0) <= 48


@pytest.mark.parametrize("name", ONTO_REALS)
def test_autocast_changes_nothing(name):
    law = ONTO_REALS[name]()
    params, shared = started(law, 5, 0.1, torch.float32)
    x = torch.randn(1, 5)
    y, log_slope = law(x, params, shared)
    with torch.autocast("cpu", torch.bfloat16):
        again = (*law(x, params, shared), law.inverse(y, params, shared))
    for a, b in zip(again, (y, log_slope, law.inverse(y, params, shared)), strict=True):
        assert a.equal(b)


@pytest.mark.parametrize(
    ("page", "law"),
    [
        ("integral", Integral()),
        ("mixture_logistic_unit", MixtureLogistic(5, "unit")),
        ("mixture_gaussian_unit", MixtureGaussian(5, "unit")),
        ("mixture_gaussian_unit_10", MixtureGaussian(10, "unit")),
    ],
)
def test_pages_build_these_laws(page, law):
    assert vars(build(composed(f"coupling={page}", "flow=realnvp_flat").coupling, "flow")()) == vars(law)


def test_shared_parameters_are_not_copied_for_each_event():
    """What is learned beside a net reaches the law as it is, whatever the batch."""
    law, seen = DenseDeepSigmoid(), []
    layer = Elementwise(Space((3,)), lambda: law)
    original = DenseDeepSigmoid.__call__

    def watching(self, x, params, shared=None):
        seen.append(shared)
        return original(self, x, params, shared)

    DenseDeepSigmoid.__call__ = watching
    try:
        layer(torch.randn(1000, 3))
    finally:
        DenseDeepSigmoid.__call__ = original
    assert seen[0].shape == (544, 3) and seen[0].untyped_storage().data_ptr() == layer.params.untyped_storage().data_ptr()


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (partial(MixtureGaussian, 0), "coupling.components=0"),
        (partial(MixtureGaussian, onto="line"), "coupling.onto is reals or unit, not 'line'"),
        (partial(DeepSigmoid, 0), "coupling.components=0"),
        (partial(DenseDeepSigmoid, layers=0), "coupling.layers=0 and coupling.width=16"),
        (partial(Integral, nodes=0), "coupling.nodes must all be at least 1"),
    ],
)
def test_options_that_cannot_work_are_refused(recipe, words):
    with pytest.raises(Refused, match=words):
        recipe()
