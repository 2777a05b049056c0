"""The shared numerical tools, each against something that knows better."""

import math

import pytest
import torch

from laminar.flows.numerics import NEWTON_STEPS, bits_per_dim, find_root, implicit, logistic_quantile, sum_event

BUDGET = {torch.float32: 32 + NEWTON_STEPS, torch.float64: 64 + NEWTON_STEPS}
precisions = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def test_sum_event_leaves_the_batch():
    x = torch.arange(24.0).view(2, 3, 4)
    assert sum_event(x).tolist() == [66.0, 210.0]
    assert sum_event(x[:, 0, 0]).equal(x[:, 0, 0])


def test_bits_per_dim_of_the_uniform_distribution_are_its_bits():
    assert bits_per_dim(torch.tensor(-12 * math.log(256)), 12).item() == pytest.approx(8)


@precisions
def test_logistic_quantile_inverts_the_sigmoid_and_never_ends(dtype):
    step = torch.finfo(dtype).eps / 2
    u = torch.tensor([0.0, step, 1e-3, 0.5, 0.9, 1 - step], dtype=dtype)
    x = logistic_quantile(u)
    assert x.isfinite().all() and (x.diff() > 0).all()
    torch.testing.assert_close(torch.sigmoid(x[1:]), u[1:])
    assert x[3] == 0 and x[0].item() == pytest.approx(-math.log(4 / torch.finfo(dtype).eps))


SHAPES = {
    "line": lambda x: (x, torch.ones_like(x)),
    "cube": lambda x: (x**3, 3 * x**2),
    "arctangent": lambda x: (x.atan(), 1 / (1 + x**2)),
    "exponential": lambda x: (torch.expm1(x.clamp(max=80)), x.clamp(max=80).exp()),
    "root": lambda x: (x.sign() * x.abs().sqrt(), 0.5 / x.abs().sqrt()),
    "step": lambda x: (torch.tanh(1e6 * x), 1e6 * (1 - torch.tanh(1e6 * x) ** 2)),
    "no_slope": lambda x: (torch.where(x > 0, 1.0, -1.0).to(x.dtype), torch.zeros_like(x)),
    "wrong_slope": lambda x: (torch.tanh(x), torch.full_like(x, 1e-3)),
}


@precisions
@pytest.mark.parametrize("shape", SHAPES)
def test_find_root_closes_in_on_a_sign_change_within_its_budget(shape, dtype):
    """On every function, however rough, from brackets of every size, with the root at every magnitude and on an end."""
    f = SHAPES[shape]
    root = torch.tensor([0.0, 1.0, -3.7, 1e-6, -1e6, 1e-30, 12345.678, 5.0, -5.0], dtype=dtype)
    low, high = (root + root.new_tensor(shift) for shift in ([-10.0] * 7 + [0, -1e8], [1e9, 2, 3, 50, 1e3, 1, 9, 9, 0]))
    evaluations = 0

    def shifted(x):
        nonlocal evaluations
        evaluations += 1
        return f(x - root)

    found = find_root(shifted, low, high, (low + high) / 2)
    assert evaluations <= BUDGET[dtype]
    eps = torch.finfo(dtype).eps
    around = 4 * eps * found.abs() + torch.finfo(dtype).tiny
    before, after = f(found - around - root)[0], f(found + around - root)[0]
    assert (((before <= 0) & (after >= 0)) | (f(found - root)[0].abs() <= 4 * eps)).all()


def test_find_root_is_quick_where_newton_is():
    evaluations = 0

    def f(x):
        nonlocal evaluations
        evaluations += 1
        return x + 0.5 * x.sin() - 1, 1 + 0.5 * x.cos()

    x = find_root(f, torch.full((4,), -100.0), torch.full((4,), 100.0), torch.zeros(4))
    assert evaluations <= 6 and f(x)[0].abs().max() < 1e-6


def test_find_root_survives_newtons_cycle():
    """sign(x) sqrt|x| throws Newton from x to -x for ever."""
    x = find_root(SHAPES["root"], torch.tensor([-8.0]), torch.tensor([9.0]), torch.tensor([4.0]))
    assert x.abs().item() < 1e-12


def test_find_root_keeps_what_is_not_a_number():
    nan = torch.tensor([torch.nan, 1.0])
    x = find_root(lambda x: (x - nan, torch.ones_like(x)), nan - 5, nan + 5, nan)
    assert x.isnan().tolist() == [True, False] and x[1] == 1


def test_implicit_gives_the_gradient_of_the_root():
    y = torch.tensor([0.3, 2.0, 40.0], dtype=torch.float64, requires_grad=True)
    scale = torch.tensor([1.0, 0.5, 3.0], dtype=torch.float64, requires_grad=True)

    def inverse(y, scale):
        x = (y / scale).detach() ** (1 / 3)
        return implicit(x, y, lambda x: (scale * x**3, (3 * scale * x**2).log()))

    assert inverse(y, scale).equal((y / scale) ** (1 / 3))
    torch.autograd.gradcheck(inverse, (y, scale))
