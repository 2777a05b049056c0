"""Toys: every density integrates to one, and the draws are of it."""

from functools import cache, partial
from math import cos, exp, log, pi, sin

import numpy as np
import pytest
import torch
from scipy.integrate import simpson
from scipy.stats import chi2, norm

from laminar.data.toys import Checkerboard, Circles, EightGaussians, Moons, Pinwheel, Spirals
from laminar.refused import Refused

BOXES, NODES, DRAWS = 12, 16, 200_000
AROUND_MOONS = ((-1, 2), (-0.5, 1))
TOYS = {  # with a rectangle that holds all but 1e-6 of the mass
    "moons_0.05": (partial(Moons, noise=0.05), np.add(AROUND_MOONS, (-0.3, 0.3))),
    "moons": (partial(Moons, noise=0.1), np.add(AROUND_MOONS, (-0.6, 0.6))),
    "moons_0.3": (partial(Moons, noise=0.3), np.add(AROUND_MOONS, (-1.8, 1.8))),
    "circles": (Circles, ((-4.5, 4.5), (-4.5, 4.5))),
    "spirals": (Spirals, ((-3.9, 3.9), (-3.9, 3.9))),
    "pinwheel": (Pinwheel, ((-5.4, 5.4), (-5.4, 5.4))),
    "eight_gaussians": (EightGaussians, ((-5, 5), (-5, 5))),
    "checkerboard": (Checkerboard, ((-4, 4), (-4, 4))),  # three boxes to a square's side
}
SCORED = {"spirals": 40_000, "pinwheel": 40_000}  # slower than the rest
every_toy = pytest.mark.parametrize("name", TOYS)


@cache
def source(name):
    return TOYS[name][0](batch_size=8)


@cache
def draws(name):
    return torch.from_numpy(source(name).draw(DRAWS, np.random.default_rng(20)))


@cache
def by_box(name):
    """Mass and entropy of each box, ``(BOXES, BOXES)``, by Gauss-Legendre quadrature within it."""
    node, weight = np.polynomial.legendre.leggauss(NODES)
    sides = [(high - low) / BOXES for low, high in TOYS[name][1]]
    lines = [
        low + side * (np.arange(BOXES)[:, None] + (node + 1) / 2).ravel()
        for (low, _), side in zip(TOYS[name][1], sides, strict=True)
    ]
    log_p = source(name).log_prob(torch.cartesian_prod(*map(torch.from_numpy, lines)))
    p = log_p.exp()
    weight = np.outer(weight, weight) * np.prod(sides) / 4
    mass, entropy = (
        np.einsum("iajb,ab->ij", value.view(BOXES, NODES, BOXES, NODES).numpy(), weight) for value in (p, -torch.xlogy(p, p))
    )
    return mass, entropy


@every_toy
def test_a_density_integrates_to_one(name):
    assert by_box(name)[0].sum() == pytest.approx(1, abs=1e-5)


@every_toy
def test_the_entropy_is_the_mean_surprise_of_draws(name):
    surprise = -source(name).log_prob(draws(name)[: SCORED.get(name, DRAWS)])
    error = 4 * float(surprise.std()) / len(surprise) ** 0.5 + 1e-5
    assert float(surprise.mean()) == pytest.approx(by_box(name)[1].sum(), abs=error)


def test_moons_have_their_entropy():
    assert by_box("moons")[1].sum() == pytest.approx(1.0076, abs=2e-4)


@every_toy
def test_draws_fill_boxes_by_their_mass(name):
    expected = DRAWS * by_box(name)[0]
    counts, *_ = np.histogram2d(*draws(name).T.numpy(), bins=BOXES, range=TOYS[name][1])
    full = expected >= 20
    counts, expected = (np.append(boxes[full], DRAWS - boxes[full].sum()) for boxes in (counts, expected))  # and the rest
    if expected[-1] < 20:
        counts, expected = counts[:-1], expected[:-1]
    assert len(counts) > 30
    assert chi2.sf(((counts - expected) ** 2 / expected).sum(), len(counts) - 1) > 1e-4


@every_toy
def test_a_density_takes_any_dtype_and_distance(name):
    x = draws(name)[:500].float()
    log_p = source(name).log_prob(x)
    assert log_p.shape == (500,) and log_p.dtype == torch.float32 and log_p.isfinite().all()
    assert torch.allclose(log_p.double(), source(name).log_prob(x.double()), atol=1e-5)
    assert source(name).log_prob(x[:0]).shape == (0,)
    for distance in (0, 30, 1e4, 1e20, 3e38):
        far = source(name).log_prob(distance * torch.tensor([[1.0, 0.0], [-1.0, 1.0], [0.3, -1.0]]))
        assert not far.isnan().any() and (far < 2).all()
        assert distance < 30 or (far < -100).all()


@pytest.mark.parametrize("arguments", [{"rate": 1.0}, {"rate": -0.7, "radial": 0.4}, {"arms": 3, "tangential": 0.6}])
def test_folds_of_a_pinwheel_are_summed(arguments):
    """A point of a folded sheet has several pre-images: box masses count all of them, whatever the Jacobian at each."""
    toy = Pinwheel(**arguments, batch_size=8)
    side, n, rng = 0.5, 1_000_000, np.random.default_rng(0)
    rows = toy.draw(n, rng)
    for corner in [(-0.25, -0.25), (1.0, 0.5), (-2.0, 1.5)]:
        share = (np.abs(rows - corner - side / 2) < side / 2).all(1).mean()
        within = torch.from_numpy(corner + side * rng.uniform(size=(1000, 2)))
        p = toy.log_prob(within).exp() * side**2
        error = (share / n + float(p.var()) / len(p)) ** 0.5
        assert float(p.mean()) == pytest.approx(share, abs=4.5 * error)


def test_both_sides_of_a_fold_are_found():
    """Close to a fold of Jacobian 0 the two pre-images weigh alike, and more than all others."""
    toy = Pinwheel(rate=1.0, tangential=0.5, batch_size=8)
    for a in (0.9, 1.0, 1.1):
        jacobian = 1e-4
        b = (jacobian - 1) / exp(a)
        angle = exp(a)
        x = 2 * torch.tensor([[a * cos(angle) + b * sin(angle), b * cos(angle) - a * sin(angle)]], dtype=torch.float64)
        one = norm.logpdf(a, 1, toy.radial) + norm.logpdf(b, 0, toy.tangential) - log(4 * toy.arms * jacobian)
        assert float(toy.log_prob(x)) == pytest.approx(log(2) + one, abs=2e-3)


@pytest.mark.parametrize("noise", [0.01, 0.1, 1.0])
def test_densities_of_curves_are_exact(noise):
    """Against Simpson's rule on a very fine grid."""

    def box(d):
        return 6 * (norm.cdf(d, scale=noise) - norm.cdf(d - 1 / 6, scale=noise))

    t = np.linspace(0, pi, 20_001)
    curves = (np.cos(t), np.sin(t)), (1 - np.cos(t), 0.5 - np.sin(t))
    moons = Moons(noise=noise, batch_size=8)
    for x in torch.from_numpy(moons.draw(10, np.random.default_rng(0))):
        halves = [norm.pdf(x[0], u, noise) * norm.pdf(x[1], v, noise) for u, v in curves]
        assert moons.log_prob(x[None]).item() == pytest.approx(log(simpson(sum(halves), x=t) / (2 * pi)), abs=1e-8)
    t = np.linspace(0, 3 * pi, 40_001)
    spirals = Spirals(noise=noise, batch_size=8)
    for x in torch.from_numpy(spirals.draw(10, np.random.default_rng(0))):
        arms = [box(float(u) + t * np.cos(t) / 3) * box(float(v) - t * np.sin(t) / 3) for u, v in (x, -x)]
        exact = log(simpson(t * sum(arms), x=t) / (9 * pi**2))
        assert spirals.log_prob(x[None]).item() == pytest.approx(exact, abs=1e-8)


@pytest.mark.parametrize("toy", [Moons, Circles, EightGaussians, Spirals])
@pytest.mark.parametrize("noise", [0.0, -0.1])
def test_no_noise_leaves_no_density(toy, noise):
    with pytest.raises(Refused, match=rf"^data\.noise={noise} leaves no area"):
        toy(noise=noise, batch_size=8)
    with pytest.raises(Refused, match=r"^data\.noise=nan is not what the option holds: it takes a number"):
        toy(noise=float("nan"), batch_size=8)


@pytest.mark.parametrize("option", ["radial", "tangential"])
def test_no_width_leaves_no_density(option):
    with pytest.raises(Refused, match=rf"^data\.{option}=0\.0 leaves no area"):
        Pinwheel(**{option: 0.0}, batch_size=8)
