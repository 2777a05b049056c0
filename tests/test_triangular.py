"""Triangular: the flow=gaussian starts at the Gaussian that fits the training rows best."""

import numpy as np
import pytest
import torch
from pages import composed
from scipy.stats import multivariate_normal

from laminar.config.recipe import build
from laminar.data.datamodule import FlowDataModule
from laminar.flows import noise
from laminar.flows.initialise import initialising
from laminar.flows.mix.triangular import Triangular
from laminar.flows.prior.gaussian import Gaussian
from laminar.flows.space import Space
from laminar.runs.prepare import initialise
from laminar.training.module import INIT


def rows_of(dims: int, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(dims)
    return torch.randn(count, dims, generator=generator) @ torch.randn(dims, dims, generator=generator) / dims**0.5 + 2


def log_prob(part: Triangular, x: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        z, contribution = part(x)
        return (Gaussian(part.codomain).log_prob(z) + contribution).double().numpy()


def closed_form(x: torch.Tensor, ridge: float = 0.0) -> np.ndarray:
    x = x.double().numpy()
    covariance = np.cov(x.T, ddof=0)
    return multivariate_normal(x.mean(0), covariance + ridge * np.eye(len(covariance))).logpdf(x)


@pytest.mark.parametrize("dims", [2, 30, 784])
def test_batch_after_batch_it_comes_to_the_closed_form(dims):
    part, x = Triangular(Space((dims,))), rows_of(dims, 2 * dims + 100)
    with initialising():
        for batch in x.split(77):
            part(batch)
    part.eval()
    found, known = log_prob(part, x), closed_form(x)
    assert found.mean() == pytest.approx(known.mean(), abs=1e-3)
    assert np.abs(found - known).max() < 0.05  # single rows, in float32
    with initialising():  # it is set: another look changes nothing
        part(x[:9] + 5)
    assert np.array_equal(log_prob(part, x), found)


def test_pixels_that_never_vary_get_a_ridge():
    x = rows_of(6, 500)
    x[:, 2], x[:, 4] = 1.0, x[:, 0] - x[:, 1]  # one constant, one that follows from others
    part = Triangular(Space((6,)), ridge=1e-4)
    with initialising():
        part(x)
    ridge = 1e-4 * x.double().var(0, correction=0).mean().item()
    assert log_prob(part.eval(), x).mean() == pytest.approx(closed_form(x, ridge).mean(), abs=1e-3)
    with initialising():
        assert Triangular(Space((3,)))(torch.zeros(4, 3))[0].isfinite().all()


def test_backwards_it_starts_so_that_samples_are_standard():
    part, z = Triangular(Space((4,))), rows_of(4, 1000)
    with initialising():
        x = part.inverse(z)
    torch.testing.assert_close(torch.cov(x.T, correction=0), torch.eye(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(x.mean(0), torch.zeros(4), atol=1e-4, rtol=0)


def test_a_run_begins_with_a_pass_over_all_training_rows():
    """Behind dequantization and logit, whose noise is keyed: the same rows again, and their closed form."""
    config = composed("flow=gaussian", "data=digits", "data.batch_size=100")
    data = FlowDataModule(build(config.data, "data"), build(config.dequantization, "flow"), 0)
    flow = build(config.flow, "flow")(data.space)
    initialise(flow, data, 0)
    *before, part = flow.transform.parts
    assert isinstance(part, Triangular) and sum(p.numel() for p in part.parameters()) == 64 * 65 // 2 + 64
    rows = []
    for x, _, index, _ in data.first_epoch():
        with noise.source(noise.mix(0, INIT, 0, index.numpy())):
            for stop in before:
                x = stop(x)[0]
        rows.append(x)
    rows = torch.cat(rows)
    assert len(rows) == len(data.splits.train)
    assert log_prob(part.eval(), rows).mean() == pytest.approx(closed_form(rows).mean(), abs=1e-3)
