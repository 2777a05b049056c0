"""Autoregressive layers: every value sees exactly the values before it, and the way back costs one pass."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from pages import PLANE, composed, flow, parameters
from parts import refuses
from recipes import IMAGE, LAWS, ORDERS, VECTOR, affine, autoregressive, batch, context_of, disturb, made, settled, transformer
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from laminar.flows.compose.inverse import Inverse
from laminar.flows.coupling.law import Law
from laminar.flows.flow import Flow
from laminar.flows.layer.autoregressive import Autoregressive
from laminar.flows.naive import naive
from laminar.flows.net.causal import unthreaded
from laminar.flows.net.made import MADE
from laminar.flows.net.masked_conv import MaskedConv
from laminar.flows.net.masked_linear import MaskedLinear
from laminar.flows.net.mlp import MLP
from laminar.flows.net.pixelcnn import PixelCNN
from laminar.flows.net.recurrent import Recurrent
from laminar.flows.net.transformer import Transformer
from laminar.flows.order.interleaved import Interleaved
from laminar.flows.order.order import Order
from laminar.flows.order.sequential import Sequential
from laminar.flows.order.spiral import Spiral
from laminar.flows.prior.gaussian import Gaussian
from laminar.flows.space import Space

NETS = {
    "plain": partial(made, width=40),
    "one layer": partial(made, width=40, depth=1),
    "linear": partial(made, depth=0),
    "residual": partial(made, width=40, residual=True),
    "random degrees": partial(made, width=300, degrees="random"),
    "planes": partial(made, width=40, planes=2),
    "weight norm": partial(made, width=40, weight_norm=True),
    "residual weight norm": partial(made, width=40, weight_norm=True, residual=True),
    "planes of weight norm": partial(made, width=40, weight_norm=True, planes=2),
    "recurrent": partial(Recurrent, width=10, depth=2),
    "transformer": transformer,
}
# Net, order, event and context.
LABEL, MAP = {"label": (3,)}, {"label": (1, 3, 3)}
WALKS = [
    *((net, order, (7,), context) for net in NETS for order in ("sequential", "reversed", "random") for context in ({}, LABEL)),
    *((net, "spiral", (2, 3, 3), context) for net in NETS for context in ({}, LABEL)),
    *((net, "random", (2, 3, 3), context) for net in ("recurrent", "transformer") for context in ({}, LABEL, MAP)),
    *((net, "interleaved", (2, 3, 3), {}) for net in ("plain", "transformer")),
    *(("pixelcnn", order, (2, 3, 3), context) for order in ("sequential", "reversed") for context in ({}, LABEL, MAP)),
    # Two columns have no blind spot.
    *(
        ("masked conv", order, (2, 3, 2), context)
        for order in ("interleaved", "interleaved_backwards")
        for context in ({}, LABEL, {"label": (6, 3, 2)})
    ),
]
NETS["pixelcnn"] = partial(PixelCNN, width=6, depth=1)
NETS["masked conv"] = partial(MaskedConv, width=6)


def cooked(space: Space, net=made, order=Sequential, law=affine) -> Autoregressive:
    torch.manual_seed(0)
    return disturb(autoregressive(law, net, order)(space)).double()


@pytest.mark.parametrize(("net", "order", "event", "context"), WALKS)
def test_a_value_sees_exactly_the_values_before_it(net, order, event, context):
    space = Space(event, context=context)
    layer = cooked(space, NETS[net], ORDERS[order])
    x, given = batch(space, 8), context_of(space, 8)
    rank = torch.from_numpy(layer.net.order.rank).repeat(space.size // layer.net.steps().size)
    # Rows do not meet, so that a derivative of their sum is each row's own: (arity, output, row, input).
    jacobian = torch.autograd.functional.jacobian(lambda rows: layer.net(rows, given).sum(0).flatten(1), x)
    seen = jacobian.flatten(3).abs().amax((0, 2)) > 0
    assert torch.equal(seen, rank[None, :] < rank[:, None])
    if context:
        told = torch.autograd.functional.jacobian(lambda c: layer.net(x, {"label": c}).sum(0).flatten(1), given["label"])
        heard = told.flatten(2).abs().amax((0, 2)) > 0
        assert torch.equal(heard, torch.ones_like(heard) if net != "masked conv" or len(context["label"]) == 1 else rank > 0)


def passed(layer: Autoregressive, z: torch.Tensor, context=None) -> torch.Tensor:
    """The way back by one whole pass of the net for each value."""
    x = torch.zeros_like(z)
    for _ in range(layer.domain.size):
        x = layer.law.inverse(z, *layer.params(x, context))
    return x


USUAL = {"pixelcnn": "reversed", "masked conv": "interleaved_backwards"}
ONE_OF_EACH = [walk for walk in WALKS if walk[1] == USUAL.get(walk[0], "random")]


@pytest.mark.parametrize(("net", "order", "event", "context"), ONE_OF_EACH)
def test_one_pass_equals_a_pass_for_each_value(net, order, event, context):
    space = Space(event, context=context)
    layer, z, given = cooked(space, NETS[net], ORDERS[order]), batch(space, 8), context_of(space, 8)
    z.requires_grad_()
    expected = passed(layer, z, given)
    with torch.no_grad():
        torch.testing.assert_close(layer.inverse(z, given), expected, rtol=1e-10, atol=1e-10)
    found = layer.inverse(z, given)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    learned = [p for p in (z, *layer.parameters()) if p.requires_grad]
    ours, naive = (torch.autograd.grad(x.pow(3).sum(), learned, allow_unused=True) for x in (found, expected))
    masks = {id(part.weight): part.mask for part in layer.modules() if isinstance(part, MaskedLinear)}
    for parameter, a, b in zip(learned, ours, naive, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)
            assert not a[masks[id(parameter)] == 0].any() if id(parameter) in masks else True


@pytest.mark.parametrize(
    ("net", "event", "order"),
    [
        (partial(MADE, width=256), (63,), Sequential),
        (partial(MADE, width=256), (200,), Sequential),
        (partial(MADE, width=256, weight_norm=True, planes=6), (63,), Sequential),
        (partial(PixelCNN, width=16, depth=2), (3, 12, 16), Sequential),
        (partial(Recurrent, width=32, depth=2), (3, 8, 8), Sequential),
        (partial(Transformer, width=128, depth=2), (3, 8, 8), Sequential),
        (partial(MaskedConv, width=48), (3, 8, 8), Interleaved),
    ],
)
def test_the_way_back_costs_one_pass_of_multiplications(net, event, order):
    layer, z = settled(autoregressive(net=net, order=order)(Space(event))), torch.randn(16, *event)
    counts = []
    for way in (lambda: layer.inverse(z), lambda: layer(z)):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            way()
        counts.append(counter.get_total_flops())
    assert 0.4 < counts[0] / counts[1] <= 1.0


@pytest.mark.parametrize("net", ["plain", "transformer"])
def test_naive_sampling_takes_a_whole_pass_for_each_value_and_finds_the_same(net):
    flow, passes = Flow(VECTOR, autoregressive(net=NETS[net]), Gaussian).double(), []
    disturb(flow).transform.net.register_forward_hook(lambda *_: passes.append(1))
    z = batch(VECTOR, 8)
    with torch.no_grad():
        expected = flow.decode(z)
        assert not passes
        with naive(flow):
            torch.testing.assert_close(flow.decode(z), expected, rtol=1e-10, atol=1e-10)
    assert len(passes) == VECTOR.size
    assert torch.equal(flow.decode(z), flow.decode(z)) and len(passes) == VECTOR.size


@pytest.mark.parametrize("work", [2**10, 2**30])
def test_small_steps_keep_to_one_thread_and_give_the_others_back(work):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(ZeroDivisionError), unthreaded(torch.zeros(1), work):
            assert torch.get_num_threads() == (1 if work < 2**20 else 2)
            _ = 1 / 0
        assert torch.get_num_threads() == 2
        with unthreaded(torch.zeros(1, device="meta"), work):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ELU])
@pytest.mark.parametrize("residual", [False, True])
def test_units_activated_in_place_leave_what_was_given_as_it_was(activation, residual):
    layer, z = cooked(VECTOR, partial(MADE, width=40, activation=activation, residual=residual)), batch(VECTOR, 8)
    kept = z.clone()
    with torch.no_grad():
        torch.testing.assert_close(layer.inverse(z), passed(layer, z), rtol=1e-10, atol=1e-10)
    assert torch.equal(z, kept) and not (residual and layer.net.activation.inplace)


@pytest.mark.parametrize("net", ["plain", "residual", "weight norm", "planes"])
def test_the_way_back_follows_a_net_in_half_precision(net):
    layer, z = cooked(VECTOR, NETS[net]).float(), batch(VECTOR, 8).float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found, expected = layer.inverse(z), passed(layer, z)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("net", ["plain", pytest.param("transformer", marks=pytest.mark.slow)])
def test_the_way_back_can_be_compiled(net):
    iaf, z = disturb(Inverse(Space((2,)), autoregressive(net=NETS[net]))), torch.randn(8, 2)
    with torch.no_grad():
        expected, log_det = iaf(z)
        iaf.compile(backend="aot_eager")
        found, minus = iaf(z)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(minus, log_det)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_round_trip_of_784_values(dtype):
    layer = autoregressive(net=partial(MADE, width=1024), order=ORDERS["random"])(Space((784,)))
    layer, x = disturb(layer).to(dtype), torch.randn(4, 784, dtype=dtype)
    with torch.no_grad():
        error = (layer.inverse(layer(x)[0]) - x).abs().max()
    assert error < (1e-4 if dtype == torch.float32 else 1e-11)


def dirt(layer: nn.Module) -> int:
    return sum(int(part.weight[part.mask == 0].count_nonzero()) for part in layer.modules() if isinstance(part, MaskedLinear))


@pytest.mark.parametrize("net", ["plain", "planes of weight norm", "residual weight norm"])
def test_masked_weights_stay_zero_whatever_happens(net):
    layer = cooked(VECTOR, NETS[net]).float()
    for trained in (layer, copy.deepcopy(layer)):
        average = copy.deepcopy(trained)
        optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-2, weight_decay=0.1)
        for _ in range(100):
            optimizer.zero_grad()
            z, log_det = trained(torch.randn(32, 6))
            (z.square().sum(1) / 2 - log_det).mean().backward()
            optimizer.step()
            with torch.no_grad():
                for a, b in zip(average.parameters(), trained.parameters(), strict=True):
                    a.lerp_(b, 0.1)
        assert dirt(trained) == dirt(average) == 0 and any(p.any() for p in trained.parameters())
    state = {name: value + 1 if name.endswith("weight") else value for name, value in layer.state_dict().items()}
    layer.load_state_dict(state)
    assert dirt(layer) == 0


@pytest.mark.parametrize("law", LAWS)
def test_maf_backwards_is_iaf_with_the_same_density(law):
    maf = cooked(VECTOR, law=LAWS[law])
    iaf = Inverse(VECTOR, lambda space: maf)
    x = batch(VECTOR, 8)
    z, log_det = maf(x)
    back, other = iaf.inverse_with_log_det(x)
    torch.testing.assert_close(back, z)
    torch.testing.assert_close(other, log_det)
    found, minus = iaf(z)
    torch.testing.assert_close(found, x, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(minus, -log_det, rtol=1e-6, atol=1e-6)


def test_a_spiral_walks_along_the_rim_and_inwards():
    walk = Spiral(Space((1, 3, 4))).rank.reshape(3, 4)
    assert walk.tolist() == [[0, 1, 2, 3], [9, 10, 11, 4], [8, 7, 6, 5]]
    out = Spiral(Space((2, 2, 2)), outwards=True).rank
    assert sorted(out.tolist()) == list(range(8)) and abs(out[0] - out[4]) == 1  # a pixel's channels are neighbours


def test_an_interleaved_order_takes_all_channels_of_a_position_in_turn():
    rank = Interleaved(Space((2, 2, 3))).rank.reshape(2, 2, 3)
    assert rank[:, 0, 0].tolist() == [0, 1] and rank[:, 0, 1].tolist() == [2, 3] and rank[:, 1, 2].tolist() == [10, 11]
    assert Interleaved(Space((2, 2, 3)), backwards=True).rank.reshape(2, 2, 3)[:, 1, 2].tolist() == [1, 0]


def test_an_order_is_a_permutation_that_repeats():
    for name, order in ORDERS.items():
        first, again = (
            order(VECTOR if name in ("sequential", "reversed", "random") else IMAGE).rank.tolist() for _ in range(2)
        )
        assert first == again and sorted(first) == list(range(len(first)))


# The facts' counts: MAF (5) on MNIST and BSDS300 (hidden layers of 1024), NAF (DDSF) and RQ-NSF (AR) on the five tables.
COUNTS = {
    "flow=maf size.width=1024": {784: 17_311_040, 63: 6_222_060},
    "flow=naf": {6: 414_213, 8: 401_741},
    "flow=naf size.width=512": {21: 9_272_743},
    "flow=naf size.width=512 size.depth=1": {43: 7_487_321},
    "flow=naf size.width=1024": {63: 36_759_591},
    "flow=nsf_ar": {6: 3_004_722, 8: 3_128_392, 21: 3_934_392, 43: 5_306_862, 63: 6_563_802},
}


@pytest.mark.parametrize(
    ("words", "values", "count"), [(words, n, count) for words, counts in COUNTS.items() for n, count in counts.items()]
)
def test_published_parameter_counts(words, values, count):
    assert parameters(Space((values,)), *words.split(), "data=moons") == count


def test_maf_reverses_its_order_and_normalises_after_every_layer():
    parts = flow(Space((6,)), "flow=maf", "data=moons").transform.parts[3].parts
    assert [type(part).__name__ for part in parts] == ["Autoregressive", "BatchNorm", "Permute"] * 5
    assert composed("flow=maf").mix.order == "reverse"


class Upside(Order):
    def ranks(self, space):
        return np.arange(space.size + 1)


class OneWay(Law):
    arity = 1

    def __call__(self, x, params):
        return x + params[:, 0] + x**3, torch.log1p(3 * x**2)


WRONG = {
    "a law without inverse, asked to sample": (
        lambda: cooked(VECTOR, law=OneWay).inverse(batch(VECTOR)),
        "OneWay has no inverse, so this flow scores data and draws none",
    ),
    "a net that sees everything": (
        lambda: cooked(VECTOR, partial(MLP, width=8)),
        "net=mlp lets every parameter see every value",
    ),
    "too few units": (lambda: cooked(VECTOR, partial(MADE, width=4)), r"size\.width=4 has fewer units than the 5 degrees"),
    "degrees": (lambda: cooked(VECTOR, partial(MADE, degrees="even")), "net.degrees is sequential or random"),
    "one value": (lambda: cooked(Space((1,))), "is a Gaussian, whatever its depth.*rational_quadratic"),
    "a spiral of convolutions": (
        lambda: cooked(IMAGE, NETS["pixelcnn"], Spiral),
        "net=pixelcnn goes row by row, and order=spiral does not",
    ),
    "convolutions of a vector": (lambda: cooked(VECTOR, NETS["pixelcnn"]), "net=pixelcnn reads images.*net=made"),
    "masked convolutions row by row": (
        lambda: cooked(IMAGE, NETS["masked conv"]),
        "net=masked_conv goes channel by channel.*order=sequential does not: choose order=interleaved",
    ),
    "units that channels cannot share": (
        lambda: cooked(IMAGE, partial(MaskedConv, width=5), Interleaved),
        "size.width=5.*cannot deal its units out to 2 channels",
    ),
    "channels of a vector": (lambda: cooked(VECTOR, order=Interleaved), "order=interleaved walks over an image's channels"),
    "an even kernel": (lambda: cooked(IMAGE, partial(PixelCNN, kernel=4)), "net.kernel=4 has no middle"),
    "a spiral in a vector": (lambda: cooked(VECTOR, order=Spiral), "order=spiral walks over an image"),
    "an order of the wrong length": (lambda: cooked(VECTOR, order=Upside), "an order of 7 ranks.*6 values"),
    "a coupling with a causal net": (
        lambda: flow(PLANE, "flow=realnvp_flat", "data=moons", "net=made"),
        "only layer=autoregressive has",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_work_is_refused_with_a_sentence(case):
    refuses(*WRONG[case])


def test_dropout_and_a_way_back_in_training_do_not_go_together():
    """The net would be another one for x than for the log-det, and for each of Jacobi's rounds."""
    layer = Autoregressive(VECTOR, affine, partial(MADE, width=32, residual=True, dropout=0.5), Sequential)
    z = torch.randn(3, *VECTOR.event)
    refuses(lambda: layer.inverse_with_log_det(z), "net.dropout makes an autoregressive layer another map")
    x, log_det = layer.eval().inverse_with_log_det(z)
    torch.testing.assert_close(-layer(x)[1], log_det)
