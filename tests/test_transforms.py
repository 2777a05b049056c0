"""Every transform keeps the contract: each law of behaviour runs over every recipe."""

from functools import partial

import pytest
import torch
from recipes import MASKS, TRANSFORMS, batch, context_of, disturb, mlp, step

from laminar.flows.layer.continuous import Continuous
from laminar.flows.net.resnet import ResNet
from laminar.flows.transform import Transform


def built(name: str, dtype: torch.dtype = torch.float64) -> tuple[Transform, torch.Tensor, dict | None]:
    """A disturbed transform in evaluation mode, with a batch and a context of its domain."""
    recipe, space = TRANSFORMS[name]
    torch.manual_seed(0)
    transform = disturb(recipe(space)).to(dtype).eval()
    return transform, batch(space, dtype=dtype), context_of(space, dtype=dtype)


every_transform = pytest.mark.parametrize("name", TRANSFORMS)


@every_transform
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_round_trip(name, dtype, tolerance):
    transform, x, context = built(name, dtype)
    z, _ = transform(x, context)
    assert z.shape == (len(x), *transform.codomain.event) and z.dtype == dtype
    back = transform.inverse(z, context)
    assert back.shape == x.shape
    assert (back - x).abs().max() <= tolerance * x.abs().max().clamp(min=1)


@every_transform
def test_log_det_is_that_of_the_jacobian(name):
    transform, x, context = built(name)
    _, contribution = transform(x, context)
    assert contribution.shape == (len(x),)
    for i in range(len(x)):
        row = context and {k: v[i : i + 1] for k, v in context.items()}
        jacobian = torch.autograd.functional.jacobian(lambda v, row=row: transform(v[None], row)[0].flatten(), x[i])
        expected = torch.linalg.slogdet(jacobian.reshape(x[i].numel(), -1))[1]
        torch.testing.assert_close(contribution[i], expected, rtol=1e-9, atol=1e-9, check_dtype=False)


@every_transform
def test_inverse_log_det_is_minus_forward(name):
    transform, x, context = built(name)
    z, contribution = transform(x, context)
    back, log_det = transform.inverse_with_log_det(z, context)
    solved = 1e-10 if isinstance(transform, Continuous) else 0  # the steps for x alone are others
    torch.testing.assert_close(back, transform.inverse(z, context), rtol=0, atol=solved)
    torch.testing.assert_close(log_det, -contribution, rtol=1e-9, atol=1e-9, check_dtype=False)


@every_transform
def test_a_batch_equals_its_rows(name):
    transform, x, context = built(name)
    z, contribution = transform(x, context)
    for i in range(len(x)):
        row = context and {k: v[i : i + 1] for k, v in context.items()}
        z_row, contribution_row = transform(x[i : i + 1], row)
        torch.testing.assert_close(z_row[0], z[i], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(contribution_row[0], contribution[i], rtol=1e-10, atol=1e-10)


def followed(transform: Transform, x: torch.Tensor, context: dict | None) -> tuple[torch.Tensor, ...]:
    """z, the contribution, and the gradient of both with respect to x."""
    x = x.clone().requires_grad_()
    z, contribution = transform(x, context)
    (gradient,) = torch.autograd.grad(z.square().sum() + contribution.sum(), x)
    return z.detach(), contribution.detach(), gradient


@pytest.mark.parametrize("name", [name for name, (_, space) in TRANSFORMS.items() if space.is_image])
def test_channels_that_lie_last_change_nothing(name):
    transform, x, context = built(name)
    last = x.contiguous(memory_format=torch.channels_last)
    for one, other in zip(followed(transform, x, context), followed(transform, last, context), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@every_transform
def test_networks_in_bfloat16_leave_a_flow_exact(name):
    """What nets answer in half precision is another flow: its log-det is its own Jacobian's, and its inverse inverts it."""
    transform, x, context = built(name, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        z, contribution = transform(x, context)
        assert z.dtype == torch.float32
        if transform.closed:
            back, log_det = transform.inverse_with_log_det(z, context)
            assert (back - x).abs().max() <= 1e-4 * x.abs().max().clamp(min=1)
            torch.testing.assert_close(log_det, -contribution, rtol=1e-3, atol=1e-3)
        x, context = x[:1].requires_grad_(), context and {k: v[:1] for k, v in context.items()}
        z, contribution = transform(x, context)  # alone, for bfloat16 rounds it otherwise in a batch
    jacobian = torch.stack([torch.autograd.grad(value, x, retain_graph=True)[0].flatten() for value in z.flatten()])
    expected = torch.linalg.slogdet(jacobian.double())[1]
    torch.testing.assert_close(contribution[0].double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@every_transform
def test_a_compiled_transform_is_the_same(name):
    transform, x, context = built(name)
    expected = followed(transform, x, context)
    torch._dynamo.reset()
    compiled = torch.compile(transform, backend="aot_eager")
    for one, other in zip(expected, followed(compiled, x, context), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def extremes():
    """Each transform with every extreme value of its domain: 0, a denormal, +-1e4 or the last float below the upper end."""
    for name, (_, space) in TRANSFORMS.items():
        values = [0.0, 1e-310, 1e4, -1e4, 255.0] if space.upper is None else [0.0, 1e-310, space.upper - 2.0**-16]
        yield from ((name, value) for value in values)


@pytest.mark.parametrize(("name", "value"), list(extremes()))
def test_extreme_inputs_have_finite_values_and_gradients(name, value):
    transform, x, context = built(name, torch.float32)
    x = torch.full_like(x, value).requires_grad_()
    z, contribution = transform(x, context)
    (z.sum() + contribution.sum()).backward()
    for tensor in (z, contribution, x.grad, *(p.grad for p in transform.parameters() if p.grad is not None)):
        assert tensor.isfinite().all()


@pytest.mark.parametrize("name", [name for name, (_, space) in TRANSFORMS.items() if space.context])
def test_context_matters_where_it_is_declared(name):
    transform, x, context = built(name)
    z, _ = transform(x, context)
    for key in context:
        assert not torch.equal(z, transform(x, {**context, key: context[key] + 1.0})[0])


@every_transform
def test_inputs_are_not_changed_in_place(name):
    transform, x, context = built(name)
    before = x.clone()
    transform.inverse(transform(x, context)[0], context)
    assert torch.equal(x, before)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("name", MASKS)
def test_exactly_the_moved_values_depend_on_exactly_the_given_ones(name, flip):
    mask, space = MASKS[name]
    partition = mask(space, flip=flip)
    index = torch.arange(space.size, dtype=torch.float64).view(1, *space.event)
    given, moved = (part.flatten().long() for part in partition.split(index))
    assert torch.equal(torch.cat((given, moved)).sort().values, torch.arange(space.size))
    assert torch.equal(partition.merge(*partition.split(index)), index)

    net = mlp if space.is_vector else partial(ResNet, width=16, depth=2)  # 11 x 11 receptive field: all of the image
    layer = disturb(step(net=net)(space, mask=partial(mask, flip=flip))).double().eval()
    jacobian = torch.autograd.functional.jacobian(lambda v: layer(v[None])[0].flatten(), batch(space)[0])
    jacobian = jacobian.reshape(space.size, space.size)
    dependence = jacobian != 0
    assert torch.equal(jacobian[given], torch.eye(space.size, dtype=torch.float64)[given])
    assert torch.equal(dependence[moved][:, moved], torch.eye(len(moved), dtype=torch.bool))
    assert dependence[moved][:, given].any(0).all() and dependence[moved][:, given].any(1).all()
