"""What training keeps: checkpointed and reversible flows have the gradients of those that keep all, for less memory."""

from copy import deepcopy
from functools import cache

import pytest
import torch
from pages import members
from torch.autograd.graph import saved_tensors_hooks

from laminar.config.pages import compose
from laminar.config.recipe import build
from laminar.flows import noise
from laminar.flows.initialise import initialising
from laminar.flows.memory import KINDS, remember
from laminar.flows.space import Space
from laminar.refused import Refused

IMAGE = Space((1, 8, 8), levels=17)
OTHERS = {"cfm": Space((1, 16, 16), levels=256)}
SMALL = ("size.steps=2", "size.levels=2", "size.depth=1", "size.latent=4", "size.deep=1")
MADE = ("iaf", "made", "maf", "maf_mog", "naf", "nsf_ar", "table", "umnn")
WIDE = (*MADE, "tarflow", "tarflow_deep_shallow", "vae_iaf", "vlae")  # widths for degrees, or that heads divide
LONG = ("cfm", "flowpp_imagenet")


@cache
def small(name):
    """A page's flow, as small as its sizes allow, after a first batch, and rows for it."""
    torch.manual_seed(0)
    space = OTHERS.get(name, IMAGE)
    words = [f"flow={name}", *SMALL, f"size.width={64 if name in WIDE else 8}"]
    words += ["net.dropout=0"] if name == "cfm" else []  # a velocity that drops units cannot be solved
    flow = build(compose("train", words).flow, "flow")(space)  # of sizes that it does not read as well
    with torch.no_grad():
        for parameter in flow.parameters():  # away from starts at zero, where gradients of nets vanish
            spread = 0.1 if parameter.ndim < 2 else 0.3 / parameter[0].numel() ** 0.5
            parameter.add_(spread * torch.randn_like(parameter))
    x = torch.randint(0, space.levels, (6, *space.event))
    with initialising(), noise.keyed(6):
        flow.log_prob(x)
    return flow, x


def gradients(flow, x, how):
    """log p(x), and its gradients in the weights."""
    flow = deepcopy(flow).train()
    remember(flow, how)
    torch.manual_seed(1)
    with noise.source(noise.mix(1, range(6))):
        value = flow.log_prob(x).sum()
    value.backward()
    return value.item(), {name: p.grad for name, p in flow.named_parameters()}


@pytest.mark.parametrize("how", ["checkpoint", "reversible"])
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in LONG else ()) for n in members("flow")])
def test_gradients_are_those_of_kept_activations(name, how):
    flow, x = small(name)
    (value, grads), (again, others) = (gradients(flow, x, each) for each in ("store", how))
    assert again == pytest.approx(value, rel=1e-6)
    scale = max(grad.abs().max() for grad in grads.values() if grad is not None)
    for parameter, grad in grads.items():
        other = others[parameter]
        assert (grad is None) == (other is None), parameter
        if grad is not None:
            assert (grad - other).norm() <= 1e-4 * max(grad.norm(), 1e-3 * scale), parameter


def glow(steps):
    torch.manual_seed(0)
    words = ["flow=glow", "size.width=16", "size.levels=2", f"size.steps={steps}", "mix=conv1x1"]
    flow, x = build(compose("train", words).flow, "flow")(IMAGE), torch.randint(0, 17, (64, 1, 8, 8))
    with initialising(), noise.keyed(64):
        flow.log_prob(x)
    return flow, x


def held(flow, x, how):
    """Bytes that the graph of a step holds beside the weights."""
    model = deepcopy(flow).train()
    remember(model, how)
    own, stores = {p.data_ptr() for p in model.parameters()}, {}

    def keep(tensor):
        store = tensor.untyped_storage()
        if store.data_ptr() not in own:
            stores[store.data_ptr()] = store.nbytes(), tensor  # alive, so that no other store takes its place
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor), noise.keyed(64), torch.enable_grad():
        model.log_prob(x)
    return sum(size for size, _ in stores.values())


def test_a_reversible_glow_holds_the_same_however_deep_it_is():
    shallow, deep = ({how: held(*glow(steps), how) for how in KINDS} for steps in (4, 16))
    assert deep["store"] > 3.5 * shallow["store"]
    assert deep["reversible"] == pytest.approx(shallow["reversible"], rel=0.15)
    assert deep["reversible"] < 0.05 * deep["store"] and deep["checkpoint"] < 0.3 * deep["store"]


def test_gradients_in_bfloat16_are_recomputed_in_bfloat16():
    flow, x = glow(2)
    with torch.autocast("cpu", torch.bfloat16):
        (_, grads), (_, others) = (gradients(flow, x[:6], how) for how in ("store", "reversible"))
    missing = torch.cat([(grads[name] - others[name]).flatten() for name in grads]).norm()
    assert missing < 0.02 * torch.cat([grad.flatten() for grad in grads.values()]).norm()


@pytest.mark.parametrize(
    ("name", "how", "reasons"),
    [
        ("glow", "reversible", ["draws on its way"]),
        ("maf", "reversible", ["draws on its way", "has no inverse in closed form", "has batch statistics"]),
        ("maf", "checkpoint", ["draws on its way", "has batch statistics"]),
        ("resflow", "checkpoint", ["draws on its way", "estimates its log-det"]),
        ("flowpp", "reversible", ["draws on its way", "drops units"]),
    ],
)
def test_parts_that_keep_theirs_say_why(name, how, reasons):
    kept = remember(small(name)[0], how)
    assert {next(reason for reason in reasons if found.startswith(reason)) for found in kept.values()} == set(reasons)
    assert remember(small(name)[0], "store") == {}


def test_evaluation_keeps_nothing_anyway():
    flow, x = small("glow")
    remember(flow.eval(), "reversible")
    with noise.keyed(6), torch.enable_grad():
        assert flow.log_prob(x).grad_fn.name() != "_BacktrackedBackward"
    remember(flow, "store")


def test_another_word_is_refused():
    with pytest.raises(Refused, match="memory=less is none of store, checkpoint, reversible"):
        remember(small("nice")[0], "less")


@pytest.mark.parametrize("name", members("flow"))
def test_every_flow_learns_with_networks_in_bfloat16(name):
    flow, x = small(name)
    value, _ = gradients(flow, x, "store")
    with torch.autocast("cpu", torch.bfloat16):
        again, grads = gradients(flow, x, "store")
    assert again == pytest.approx(value, rel=0.03)
    assert all(grad is None or grad.isfinite().all() for grad in grads.values())
