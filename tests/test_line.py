"""One dimension: data of known density, CDF flows in float64, bridges, and what their pictures show."""

from functools import partial

import numpy as np
import pytest
import torch
from engine import prepared
from scipy.integrate import quad
from scipy.stats import kstest, norm

from laminar.data.line import Integers1D, Mixture1D
from laminar.flows.bridge import bridge
from laminar.flows.compose.chain import Chain
from laminar.flows.coupling.mixture_gaussian import MixtureGaussian
from laminar.flows.dequantization.as_reals import AsReals
from laminar.flows.dequantization.none import Reals
from laminar.flows.dequantization.uniform import Uniform as UniformNoise
from laminar.flows.flow import Flow
from laminar.flows.layer.elementwise import Elementwise
from laminar.flows.prior.beta import Beta
from laminar.flows.prior.gaussian import Gaussian
from laminar.flows.prior.uniform import Uniform
from laminar.flows.space import Space
from laminar.pictures import line
from laminar.refused import Refused
from laminar.runs.open import open_run
from laminar.runs.run import run

LINE, HALVES = Space((1,)), ((-1.0, 0.5), (0.25, 0.5))


def cdf_flow(means, deviations, prior=Uniform, space=LINE, first=Reals) -> Flow:
    """The flow whose density is exactly the equal mixture of these Gaussians, for a uniform or Gaussian prior."""
    law = partial(MixtureGaussian, len(means), onto="reals" if prior is Gaussian else "unit")
    flow = Flow(space, partial(Chain, parts=[first, partial(Elementwise, law=law)]), prior).double().eval()
    params = flow.transform.parts[1].params
    with torch.no_grad():
        params.zero_()
        params[-2 * len(means) :, 0] = torch.tensor([*means, *np.log(deviations)], dtype=params.dtype)
    return flow


# -- data ------------------------------------------------------------------------------------------------------------


def test_the_lectures_density_against_scipy_and_quadrature():
    source = Mixture1D(batch_size=8)

    def density(x: float) -> float:
        return 0.5 * norm.pdf(x, -1, 0.25) + 0.5 * norm.pdf(x, 0.5, 0.5)

    x = np.linspace(-3, 3, 50)
    np.testing.assert_allclose(source.log_prob(torch.from_numpy(x[:, None])), np.log(density(x)), rtol=1e-10)
    assert quad(density, -6, 6, points=[-1, 0.5])[0] == pytest.approx(1)
    entropy = quad(lambda x: -density(x) * np.log(density(x)), -4, 5, points=[-1, 0.5])[0]
    assert entropy == pytest.approx(1.0101, abs=1e-4)
    train, _, test = source.load(0)
    assert train.values.dtype == test.values.dtype == torch.float64 and train.values.shape == (45_000, 1)
    assert not np.isin(test.values, train.values).any()  # another seed, not the same stream cut in two
    assert kstest(test.values[:, 0], lambda x: 0.5 * norm.cdf(x, -1, 0.25) + 0.5 * norm.cdf(x, 0.5, 0.5)).pvalue > 1e-3


def test_integers_come_with_their_probabilities():
    source = Integers1D(batch_size=8, probabilities=[0.5, 0.125, 0.375], train_size=100_000)
    values = source.load(0).train.values
    share = torch.bincount(values[:, 0]) / len(values)
    assert source.levels == 3 and values.dtype == torch.uint8
    torch.testing.assert_close(share.double(), source.log_prob(torch.arange(3)[:, None]).exp(), atol=0.006, rtol=0)
    for probabilities in ([0.5, 0.6], [1.0], [1.5, -0.5]):
        with pytest.raises(Refused, match="whose sum is 1"):
            Integers1D(batch_size=8, probabilities=probabilities)
    for options in ({"means": [0.0]}, {"means": [], "deviations": []}, {"deviations": [1.0, 0.0]}):
        with pytest.raises(Refused):
            Mixture1D(batch_size=8, **options)


# -- flows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", [Uniform, Gaussian])
def test_a_cdf_flow_is_the_mixture_that_it_was_made_of(prior):
    x = Mixture1D(batch_size=8).load(0).test.values[:500]
    torch.testing.assert_close(cdf_flow(*HALVES, prior=prior).log_prob(x), Mixture1D(batch_size=8).log_prob(x))


def test_a_bridge_leads_from_any_density_to_any_other():
    here, there = cdf_flow(*HALVES), cdf_flow([3.0, 9.0, 4.0], [0.5, 0.1, 1.0])
    x = Mixture1D(batch_size=8).load(0).test.values
    y, log_det = bridge(here, there)(x)
    cdf = lambda y: sum(norm.cdf(y, m, s) for m, s in ((3, 0.5), (9, 0.1), (4, 1))) / 3  # noqa: E731
    assert kstest(y[:, 0].detach(), cdf).pvalue > 1e-3
    torch.testing.assert_close(there.log_prob(y) + log_det, here.log_prob(x))
    torch.testing.assert_close(bridge(here, there).inverse(y), x)
    pixels = cdf_flow(*HALVES, space=Space((1,), levels=4), first=UniformNoise)
    assert bridge(pixels, here).domain.levels is None
    with pytest.raises(Refused, match="one prior"):
        bridge(here, cdf_flow(*HALVES, prior=Beta))


@pytest.mark.parametrize("words", [["prior=beta"], ["coupling=deep_sigmoid", "prior=gaussian", "size.steps=2"]], ids=str)
def test_a_run_in_double_precision_is_one_from_data_to_evaluation(tmp_path, words):
    words = ["flow=cdf", "data=mixture_1d", *words, "trainer.precision=64-true", "trainer.max_steps=12", "optimizer.lr=0.01"]
    plain = prepared(
        tmp_path, *words, "callbacks=[densities,checkpoints]", "~size.width", *(["~size.steps"] * (len(words) < 8))
    )
    seen = []

    def dtypes(module, inputs, output):
        seen.extend([inputs[0].dtype, output[0].dtype, output[1].dtype])

    handle = torch.nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: dtypes(module, inputs, output) if isinstance(module, Elementwise) else None
    )
    try:
        numbers = run(plain, tmp_path)
    finally:
        handle.remove()
    assert set(seen) == {torch.float64}
    flow, *_ = open_run(tmp_path, "cpu")
    assert {parameter.dtype for parameter in flow.parameters()} == {torch.float64}
    x = Mixture1D(**{"batch_size": 8}).load(0).test.values
    with torch.no_grad():
        assert -flow.log_prob(x).mean().item() == pytest.approx(numbers["test/nll"], abs=1e-6)
        excess = (Mixture1D(batch_size=8).log_prob(x) - flow.log_prob(x)).mean().item()
    assert numbers["test/excess"] == pytest.approx(excess, abs=1e-6)
    assert {"step-0000000.png", "step-0000004.png"} <= {path.name for path in (tmp_path / "samples").iterdir()}
    assert (tmp_path / "figures" / "density.png").stat().st_size > 20_000


# -- pictures --------------------------------------------------------------------------------------------------------


def test_the_three_panels_show_the_flow():
    flow, x = cdf_flow(*HALVES), Mixture1D(batch_size=8).load(0).test.values
    seen = line.look(flow, x)
    torch.testing.assert_close(seen["density"], Mixture1D(batch_size=8).log_prob(seen["x"][:, None]).exp())
    cdf = torch.from_numpy(0.5 * norm.cdf(seen["x"], -1, 0.25) + 0.5 * norm.cdf(seen["x"], 0.5, 0.5))
    torch.testing.assert_close(seen["map"], cdf)
    assert torch.trapezoid(seen["density"], seen["x"]) == pytest.approx(1, abs=1e-3)
    assert len(seen["noise"]) == len(x) and len(seen["bars"]) == 0 and seen["z"][[0, -1]].tolist() == [0, 1]
    torch.testing.assert_close(seen["prior"], torch.ones_like(seen["z"]))


@pytest.mark.parametrize(("first", "bars"), [(UniformNoise, 0.5), (AsReals, 0.0)])
def test_integers_stand_where_their_reals_are(tmp_path, first, bars):
    flow = cdf_flow([0.0, 1.0], [0.3, 0.3], space=Space((1,), levels=3), first=first)
    x = torch.tensor([[0], [1], [1], [2]], dtype=torch.uint8)
    seen = line.look(flow, x)
    assert seen["bars"].tolist() == [bars, 1 + bars, 2 + bars] and set(seen["bars"].tolist()) <= set(seen["x"].tolist())
    line.line({"before": seen, "after": seen}, x, tmp_path / "line.png")
    assert (tmp_path / "line.png").stat().st_size > 20_000
