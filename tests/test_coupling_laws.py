"""Coupling laws as elementwise maps: slopes, round trips and gradients, up to parameters of 50 and far into the tails."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from recipes import LAWS

from laminar.config.recipe import build
from laminar.flows.coupling.deep_sigmoid import DeepSigmoid
from laminar.flows.coupling.dense_deep_sigmoid import DenseDeepSigmoid
from laminar.flows.coupling.mixture_gaussian import MixtureGaussian
from laminar.flows.coupling.mixture_logistic import MixtureLogistic
from laminar.flows.coupling.piecewise_linear import PiecewiseLinear
from laminar.flows.coupling.piecewise_quadratic import PiecewiseQuadratic
from laminar.flows.coupling.rational_quadratic import RationalQuadratic
from laminar.refused import Refused

SPLINES = {
    "piecewise_linear": PiecewiseLinear,
    "piecewise_quadratic": PiecewiseQuadratic,
    "rational_quadratic": RationalQuadratic,
}
SUMS = {
    "mixture_logistic": MixtureLogistic,
    "mixture_gaussian": MixtureGaussian,
    "deep_sigmoid": DeepSigmoid,
    "dense_deep_sigmoid": DenseDeepSigmoid,
}
CLASSES = SPLINES | SUMS
CURVED = (
    SPLINES | {name: partial(law, 8) for name, law in SUMS.items()} | {"dense_deep_sigmoid": partial(DenseDeepSigmoid, 2, 8)}
)
HARD = {
    "corners": lambda shape: torch.randint(0, 2, shape) * 100.0 - 50,
    "uniform": lambda shape: torch.rand(shape) * 100 - 50,
    "narrow": lambda shape: torch.rand(shape) * 100 - 90,
    "normal": torch.randn,
}


class Held:
    """A law as its layer holds it: of what it shares, the planes' first row and element count for all."""

    def __init__(self, law):
        self.law = law

    def __getattr__(self, name):
        return getattr(self.law, name)

    def _split(self, params):
        own, shared = params.split([self.law.arity, self.law.shared], 1)
        return own, shared[0].flatten(1)[:, :1].view(-1, *[1] * (params.dim() - 2)) if self.law.shared else None

    def __call__(self, x, params):
        return self.law(x, *self._split(params))

    def inverse(self, y, params):
        return self.law.inverse(y, *self._split(params))


every_law = pytest.mark.parametrize("name", LAWS)
curved_laws = pytest.mark.parametrize("name", CURVED)
spline_laws = pytest.mark.parametrize("name", SPLINES)
hard = pytest.mark.parametrize("kind", HARD)
precisions = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(11)


def planes(law, kind="normal", shape=(50, 6), dtype=torch.float64):
    return HARD[kind]((shape[0], law.arity + law.shared, *shape[1:])).to(dtype)


def points(shape=(50, 6), dtype=torch.float64):
    """Around the origin, on the ends of the splines' interval, far out, and next to nothing."""
    x = torch.rand(shape) * 8 - 4
    special = torch.tensor([0.0, -0.0, 3.0, -3.0, 1e4, -1e4, 1e-40, -1e-40, 1.5, 50.0, -50.0, 3.0000002])
    x.view(-1)[: len(special)] = special
    return x.to(dtype)


def slope_by_autograd(law, x, params):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(law(x, params)[0].sum(), x)[0]


@every_law
def test_log_slope_is_that_of_autograd(name):
    law = Held(LAWS[name]())
    x, params = points(), planes(law)
    unseen = 1e-15 if name.endswith("unit") else 0  # near 1, y changes less than it can be written
    torch.testing.assert_close(law(x, params)[1].exp(), slope_by_autograd(law, x, params), rtol=1e-8, atol=unseen)


@curved_laws
@hard
def test_log_slope_is_that_of_autograd_at_hard_parameters(name, kind):
    law = Held(CURVED[name]())
    x, params = points(), planes(law, kind)
    torch.testing.assert_close(law(x, params)[1].exp(), slope_by_autograd(law, x, params), rtol=1e-6, atol=1e-300)


@every_law
def test_round_trip(name):
    law = Held(LAWS[name]())
    x, params = torch.randn(200, 6, dtype=torch.float64), planes(law, shape=(200, 6))
    torch.testing.assert_close(law.inverse(law(x, params)[0], params), x, rtol=0, atol=1e-10)


@curved_laws
@hard
@precisions
def test_the_inverse_is_backward_stable(name, kind, dtype):
    """f(f^-1(y)) is y up to 40 roundings of y, and of x as the slope magnifies them: no inverse can promise more."""
    law = Held(CURVED[name]())
    params = planes(law, kind, (200, 6), dtype)
    offset = 3  # what is added on the way to y
    if name in SUMS:
        offset = params[:, 1].abs() if name.startswith("mixture") else params.abs().amax(1)
    for spread in (1, 30, 1e4):
        y = (spread * torch.randn(200, 6)).to(dtype)
        x = law.inverse(y, params)
        again, log_slope = law(x, params)
        rounding = torch.finfo(dtype).eps * (3 + offset + y.abs() + log_slope.exp() * (3 + x.abs()))
        assert ((again - y).abs() <= 40 * rounding).all()


@curved_laws
@hard
@precisions
def test_values_and_gradients_are_finite(name, kind, dtype):
    law = Held(CURVED[name]())
    params, x = planes(law, kind, dtype=dtype).requires_grad_(), points(dtype=dtype).requires_grad_()
    y, log_slope = law(x, params)
    back = law.inverse(x, params)
    for output in (y, log_slope, back):
        assert output.isfinite().all()
        for gradient in torch.autograd.grad(output.sum(), (x, params), retain_graph=True, allow_unused=True):
            assert gradient is None or gradient.isfinite().all()


@curved_laws
@hard
def test_increasing(name, kind):
    law = Held(CURVED[name]())
    x = torch.linspace(-4, 4, 5001, dtype=torch.float64).expand(5, -1)
    params = planes(law, kind, (5, 1)).expand(-1, -1, 5001)
    y, log_slope = law(x, params)
    rise, rounding = y.diff(), 1e-12 if name == "dense_deep_sigmoid" else 1e-14
    steep = log_slope[:, 1:].minimum(log_slope[:, :-1]) > -15
    assert (rise >= -rounding).all() and (rise[steep] > 0).all()


@curved_laws
def test_not_a_number_stays_visible(name):
    law = Held(CURVED[name]())
    x = torch.tensor([[0.5, torch.nan]])
    params = planes(law, shape=(1, 2), dtype=torch.float32)
    assert law(x, params)[0].isnan().tolist() == law.inverse(x, params).isnan().tolist() == [[False, True]]


@every_law
def test_inverse_has_the_right_gradient(name):
    law = Held(LAWS[name]())
    y, params = torch.randn(3, 2, dtype=torch.float64), planes(law, shape=(3, 2))
    torch.autograd.gradcheck(law.inverse, (y.requires_grad_(), params.requires_grad_()), eps=1e-6, atol=1e-5, rtol=1e-4)


@every_law
def test_starts_near_the_identity(name):
    law = Held(LAWS[name]())
    x = torch.linspace(-2.9, 2.9, 59, dtype=torch.float64)[None]
    params = law.start(torch.Generator()).double().view(1, -1, 1).expand(1, -1, 59)
    assert params.shape[1] == law.arity + law.shared
    y, log_slope = law(x, params)
    if name in CURVED:
        assert (y - x).abs().max() < 0.05 and log_slope.abs().max() < 0.05
    assert law.inverse(y, params).sub(x).abs().max() < 1e-12


@curved_laws
def test_runs_over_every_shape_and_broadcast_parameters(name):
    law = Held(CURVED[name]())
    x, params = torch.randn(4, 3, 2, 2), planes(law, shape=(1, 3, 2, 2), dtype=torch.float32)
    y, log_slope = law(x, params.expand(4, -1, -1, -1, -1))
    flat, _ = law(x.flatten(1), params.flatten(2).expand(4, -1, -1))
    assert y.shape == log_slope.shape == x.shape
    torch.testing.assert_close(y.flatten(1), flat, rtol=0, atol=0)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if "deep" in n else ()) for n in CURVED])
def test_compiles_without_a_graph_break(name):
    law = Held(CLASSES[name](2))
    x, params = torch.randn(8, 3), planes(law, shape=(8, 3), dtype=torch.float32)
    for function in (law.__call__, law.inverse):
        compiled = torch.compile(function, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(x, params), function(x, params))


@pytest.mark.parametrize("bins", [2, 8, 9])
@spline_laws
@hard
def test_a_compiled_spline_and_its_gradients_are_the_same(name, kind, bins):
    """On both sides of the number of bins up to which a compiler is given each plane by itself."""
    torch._dynamo.reset()
    law = Held(SPLINES[name](bins))
    x, params = points().requires_grad_(), planes(law, kind).requires_grad_()
    down = torch.randn_like(x)
    found = []
    for call in (law.__call__, torch.compile(law.__call__, fullgraph=True, backend="aot_eager")):
        y, log_slope = call(x, params)
        found.append((y, log_slope, *torch.autograd.grad([y, log_slope], [x, params], [down, down.square()])))
    for eager, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-7, atol=1e-9)


@spline_laws
@precisions
def test_splines_are_the_identity_in_the_tails_and_at_their_ends(name, dtype):
    law = SPLINES[name]()
    x = torch.tensor([[-1e4, -3.0, 3.0, 3.5, 1e30]], dtype=dtype)
    y, log_slope = law(x, planes(law, shape=(1, 5), dtype=dtype))
    assert y.equal(x) and not log_slope.any() and law.inverse(x, planes(law, shape=(1, 5), dtype=dtype)).equal(x)


@spline_laws
@hard
def test_splines_map_the_interval_onto_itself(name, kind):
    """The integral of the slope is the length of the interval, and the map is continuous at its ends."""
    law = SPLINES[name]()
    n = 100_001
    x = torch.linspace(-3, 3, n, dtype=torch.float64)[None]
    params = planes(law, kind, (1, 1)).expand(-1, -1, n)
    middles = (x[:, 1:] + x[:, :-1]) / 2
    mass = law(middles, params[..., 1:])[1].exp().sum() * (6 / (n - 1))
    assert mass.item() == pytest.approx(6, rel=1e-5 if kind == "normal" else 0.05)
    ends = torch.tensor([[-3 + 1e-12, 3 - 1e-12]], dtype=torch.float64)
    assert (law(ends, params[..., :2])[0] - ends).abs().max() < 1e-8


@spline_laws
def test_splines_round_trip_at_their_knots(name):
    law = SPLINES[name](4)
    params = planes(law, shape=(30, 1))
    widths = torch.full((30, 4), 0.25) if name == "piecewise_linear" else 1e-3 + 0.996 * params[:, :4, 0].softmax(1)
    x = 6 * widths.cumsum(1)[:, :3].double() - 3
    params = params.expand(-1, -1, 3)
    y, log_slope = law(x, params)
    below, above = (law(x + shift, params)[0] for shift in (-1e-12, 1e-12))
    assert (y - below).abs().max() < 1e-9 and (y - above).abs().max() < 1e-9
    assert (law.inverse(y, params) - x).abs().max() < 1e-12
    assert log_slope.isfinite().all()


def test_mixture_logistic_is_the_mixture_of_the_paper():
    law = MixtureLogistic(4)
    x, params = torch.randn(100, 3, dtype=torch.float64), planes(law, shape=(100, 3))
    a, b = params[:, 0].tanh(), params[:, 1]
    logits, mean, log_scale = params[:, 2:6], params[:, 6:10], params[:, 10:]
    parts = torch.sigmoid((x[:, None] - mean) / log_scale.exp())
    cdf = (logits.softmax(1) * parts).sum(1)
    density = (logits.softmax(1) * parts * (1 - parts) / log_scale.exp()).sum(1)
    y, log_slope = law(x, params)
    torch.testing.assert_close(y, torch.logit(cdf) * a.exp() + b)
    torch.testing.assert_close(log_slope, (density / (cdf * (1 - cdf))).log() + a)


def test_mixture_logistic_carries_a_logistic_to_a_density_that_integrates_to_one():
    law = MixtureLogistic(5)
    x = torch.linspace(-200, 200, 200_001, dtype=torch.float64)[None]
    y, log_slope = law(x, planes(law, shape=(1, 1)).expand(-1, -1, 200_001))
    log_density = -y.abs() - 2 * torch.log1p(torch.exp(-y.abs())) + log_slope
    assert torch.trapezoid(log_density.exp(), x).item() == pytest.approx(1, abs=1e-6)


def test_mixture_logistic_counts_narrow_components_as_e_to_the_minus_7():
    law, x = MixtureLogistic(1), torch.tensor([[1e-3]], dtype=torch.float64)
    slopes = [
        law(x, torch.tensor([0, 0, 0, 0, log_scale]).double().view(1, 5, 1))[1].item() for log_scale in (-6.0, -7.0, -50.0)
    ]
    assert slopes == pytest.approx([6, 7, 7])


def test_mixture_logistic_components_start_apart_and_move_apart():
    law = MixtureLogistic(8)
    start = law.start(torch.Generator()).double()
    params = start.view(1, -1, 1).repeat(100, 1, 2).requires_grad_()
    y, log_slope = law(torch.randn(100, 2, dtype=torch.float64), params)
    gradient = torch.autograd.grad((y.square() / 2 - log_slope).sum(), params)[0].sum((0, 2))[2:].view(3, 8)
    distance = (gradient[:, :, None] - gradient[:, None, :]).abs() + torch.eye(8)
    assert distance.min() > 0


def test_mixture_logistic_inverse_is_quick_on_ordinary_and_bounded_on_any_parameters(monkeypatch):
    from laminar.flows.coupling import mixture_logistic

    evaluations = []

    def counting(f, *bracket):
        evaluations.append(0)

        def counted(x):
            evaluations[-1] += 1
            return f(x)

        return mixture_logistic_root(counted, *bracket)

    mixture_logistic_root = mixture_logistic.find_root
    monkeypatch.setattr(mixture_logistic, "find_root", counting)
    law = MixtureLogistic(8)
    y = torch.randn(300, 4)
    law.inverse(y, planes(law, "normal", (300, 4), torch.float32))
    assert evaluations[-1] <= 20
    for kind in HARD:
        law.inverse(y, planes(law, kind, (300, 4), torch.float32))
        law.inverse(y.double(), planes(law, kind, (300, 4)))
    assert max(evaluations[1::2]) <= 48 and max(evaluations[2::2]) <= 80


def test_piecewise_linear_is_a_histograms_cdf():
    law = PiecewiseLinear(6, low=0, high=1, min_bin_height=0)
    params = torch.randn(6, dtype=torch.float64)
    x = torch.linspace(0.001, 0.999, 101, dtype=torch.float64)
    knots = np.concatenate([[0], params.softmax(0).cumsum(0).numpy()])
    y, _ = law(x[None], params.view(1, 6, 1).expand(1, 6, 101))
    np.testing.assert_allclose(y[0], np.interp(x, np.linspace(0, 1, 7), knots), atol=1e-14)


def test_piecewise_quadratic_integrates_a_piecewise_linear_density():
    law = PiecewiseQuadratic(6, low=0, high=1, min_bin_width=0, min_density=0)
    params = torch.randn(13, dtype=torch.float64)
    knots = np.concatenate([[0], params[:6].softmax(0).cumsum(0).numpy()])
    x = np.linspace(0, 1, 1_000_001)
    density = np.interp(x, knots, params[6:].exp().numpy())
    cdf = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    y, log_slope = law(torch.from_numpy(x[1:-1])[None], params.view(1, 13, 1).expand(1, 13, 999_999))
    np.testing.assert_allclose(y[0], cdf[1:-1] / cdf[-1], atol=1e-9)
    np.testing.assert_allclose(log_slope[0].exp(), density[1:-1] / cdf[-1] * 1e6, rtol=1e-9)


def test_rational_quadratic_goes_through_its_knots_with_its_slopes():
    law = RationalQuadratic(5, bound=2.0)
    params = torch.randn(14, dtype=torch.float64)
    x, y = (4 * (1e-3 + (1 - 5e-3) * part.softmax(0)).cumsum(0)[:4] - 2 for part in (params[:5], params[5:10]))
    slopes = 1e-3 + torch.log1p(params[10:].exp())
    planes = params.view(1, 14, 1).expand(1, 14, 4)
    for side in (-1e-10, 0, 1e-10):
        value, log_slope = law(x[None] + side, planes)
        torch.testing.assert_close(value[0], y, rtol=0, atol=1e-8)
        torch.testing.assert_close(log_slope[0].exp(), slopes, rtol=1e-6, atol=0)


def test_rational_quadratic_is_the_spline_of_gregory_and_delbourgo():
    """Between knots, the form with unexpanded numerator and denominator, for one bin in [0, 1] with slope 1 at its ends."""
    law = RationalQuadratic(2, bound=1.0)
    params = torch.tensor([0.4, -0.3, 1.0, 0.2, 0.7], dtype=torch.float64)
    width, height = (2 * (1e-3 + 0.998 * part.softmax(0)[0].item()) for part in (params[:2], params[2:4]))
    d = 1e-3 + float(np.log1p(np.exp(0.7)))
    t = np.linspace(0.01, 0.99, 50)
    s = height / width
    numerator = height * t**2 * s + height * 1.0 * t * (1 - t)
    denominator = s * (t**2 + (1 - t) ** 2) + (1.0 + d) * t * (1 - t)
    x = torch.from_numpy(-1 + t * width)[None]
    y, _ = law(x, params.view(1, 5, 1).expand(1, 5, 50))
    np.testing.assert_allclose(y[0], -1 + numerator / denominator, atol=1e-13)


@spline_laws
def test_gradients_of_splines_are_those_of_finite_differences_twice(name):
    """Of values, log-slopes and parameters: the bins' gradient is written by hand, and may itself be differentiated."""
    law = SPLINES[name](bins=4)
    x = (torch.rand(3, 4, dtype=torch.float64) * 8 - 4).requires_grad_()
    params = torch.randn(3, law.arity, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(law, (x, params))
    assert torch.autograd.gradgradcheck(law, (x, params))


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (partial(RationalQuadratic, 1000), "coupling.min_bin_width=0.001 times coupling.bins=1000"),
        (partial(RationalQuadratic, 100, min_bin_height=0.01), "coupling.min_bin_height"),
        (partial(RationalQuadratic, min_derivative=0), "coupling.min_derivative"),
        (partial(RationalQuadratic, bound=0), "low must be below high"),
        (partial(PiecewiseLinear, 2000), "coupling.min_bin_height"),
        (partial(PiecewiseQuadratic, 8, min_bin_width=0.125), "coupling.min_bin_width"),
        (partial(PiecewiseQuadratic, min_density=1), "coupling.min_density"),
        (partial(PiecewiseLinear, 0), "coupling.bins=0"),
        (partial(MixtureLogistic, 0), "coupling.components=0"),
    ],
)
def test_options_that_cannot_work_are_refused(recipe, words):
    with pytest.raises(Refused, match=words):
        recipe()


@curved_laws
def test_pages_hold_the_defaults(name):
    page = yaml.safe_load((Path(__file__).parents[1] / "conf" / "coupling" / f"{name}.yaml").read_text())
    assert vars(build(page, "flow")()) == vars(CLASSES[name]())
