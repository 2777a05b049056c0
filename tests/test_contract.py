"""The contract: facts that are asked, the moments of a refresh, objectives, views of a flow, what is noted."""

import csv
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from engine import prepared, run
from parts import Counted, Drawing, Leaf, Magnitude, Noisy, Noting, Warm
from recipes import affine, coupling, disturb, mlp, settled, step
from test_flow import TINY, enumerated, flow_of, integrated, variational, vector_steps
from test_resume import assert_same, assert_same_run
from torch import distributed, nn

from laminar.data.datamodule import FlowDataModule
from laminar.data.digits import Digits
from laminar.data.source import Source, Split, Splits
from laminar.flows import ledger, noise
from laminar.flows.compose.chain import Chain
from laminar.flows.compose.inverse import Inverse
from laminar.flows.compose.level import Level
from laminar.flows.compose.multiscale import Multiscale
from laminar.flows.compose.repeat import Repeat
from laminar.flows.context.given import Given
from laminar.flows.dequantization.none import Reals
from laminar.flows.dequantization.uniform import Uniform
from laminar.flows.dequantization.variational import Variational
from laminar.flows.flow import Flow
from laminar.flows.initialise import SetByData, initialising
from laminar.flows.layer.elementwise import Elementwise
from laminar.flows.layer.step import Step
from laminar.flows.mask.channel import Channel
from laminar.flows.mask.parity import Parity
from laminar.flows.mask.scheme import Scheme
from laminar.flows.mix.conv1x1 import Conv1x1
from laminar.flows.net.convnet import ConvNet
from laminar.flows.net.net import Net
from laminar.flows.norm.actnorm import ActNorm
from laminar.flows.norm.batchnorm import BatchNorm
from laminar.flows.preprocessing.logit import Logit
from laminar.flows.prior.gaussian import Gaussian
from laminar.flows.space import Space
from laminar.flows.transform import Transform
from laminar.refused import Refused
from laminar.runs.start import resume
from laminar.training.checkpoint import load, read

VECTOR, IMAGE = Space((4,)), Space((4, 4, 4))
channels = Scheme([[partial(Channel), 1]])


class Listed(Transform):
    """A part in a list, behind a module that is no transform."""

    def __init__(self, space: Space, part):
        super().__init__(space)
        self.shelf = nn.Module()
        self.shelf.parts = nn.ModuleList([part(space)])


class Trusting(Net):
    """A conditioner that holds a transform."""

    def __init__(self, *task, part):
        super().__init__(*task)
        self.part, self.head = part(self.seen), nn.Conv2d(self.seen.event[0], self.outputs, 1)

    def forward(self, x, context=None):
        return self.head(self.part(x)[0]).unflatten(1, (self.arity, -1))


def within(net, part):
    return partial(net, part=part)


# Every composite, with one special part somewhere inside.
COMPOSITES = {
    "chain": lambda part: Chain(VECTOR, [Leaf, part]),
    "repeat": lambda part: Repeat(VECTOR, [Leaf, part], 2),
    "inverse": lambda part: Inverse(VECTOR, part),
    "step before": lambda part: step(before=[part])(IMAGE, mask=partial(Channel)),
    "step after a half": lambda part: step(where="halves", after=[part])(IMAGE, mask=partial(Channel)),
    "step coupling": lambda part: step(net=within(Trusting, part))(IMAGE, mask=partial(Channel)),
    "level": lambda part: Level(IMAGE, Scheme([part]), step()),
    "multiscale body": lambda part: Multiscale(IMAGE, channels, step(after=[part]), levels=2),
    "multiscale release": lambda part: Multiscale(
        IMAGE, channels, step(), levels=2, release=coupling(net=within(Trusting, part))
    ),
    "multiscale top": lambda part: Multiscale(IMAGE, channels, step(), levels=2, top=part),
    "list": lambda part: Listed(VECTOR, part),
    "dequantizer's flow": lambda part: Variational(
        TINY, flow=partial(Flow, prior=Gaussian, context=Given, transform=partial(Inverse, transform=part))
    ),
}


def special(built: nn.Module, kind: type) -> list:
    return [module for module in built.modules() if isinstance(module, kind)]


@pytest.mark.parametrize("name", COMPOSITES)
def test_a_composite_is_noisy_by_any_part_at_the_moment_of_asking(name):
    plain, built = COMPOSITES[name](Leaf), COMPOSITES[name](Noisy)
    assert built.noisy and not plain.noisy and plain.invertible
    for part in special(built, Noisy):
        part.exact = True
    assert not built.noisy


@pytest.mark.parametrize("name", [name for name in COMPOSITES if name not in ("inverse", "dequantizer's flow")])
def test_a_composite_draws_and_is_invertible_as_its_parts_are(name):
    drawing, surjective = COMPOSITES[name](Drawing), COMPOSITES[name](Magnitude)
    assert drawing.stochastic and drawing.invertible and not surjective.stochastic and not surjective.invertible
    if "half" not in name and "coupling" not in name and "release" not in name and name != "list":
        z = torch.randn(3, *drawing.codomain.event)
        for built in (drawing, surjective):
            with pytest.raises(Refused, match="draws on its way"):
                built.inverse_with_log_det(z)


@pytest.mark.parametrize("part", [Drawing, Magnitude])
def test_what_draws_has_no_inverse_transform(part):
    with pytest.raises(Refused, match="Inverse needs a bijection"):
        Inverse(VECTOR, part)


def test_facts_cannot_be_stored():
    with pytest.raises(AttributeError):
        Leaf(VECTOR).noisy = True


def test_a_flow_says_its_grade():
    grades = {}
    for name, parts in {"exact": [Leaf], "bound": [Drawing], "estimate": [Noisy], "bound+estimate": [Drawing, Noisy]}.items():
        grades[name] = flow_of(VECTOR, Reals, *parts).grade
    assert all(name == grade for name, grade in grades.items())
    assert not flow_of(VECTOR, Magnitude).invertible
    with pytest.raises(Refused, match="trace=exact"):
        flow_of(VECTOR, Drawing, Noisy).log_prob(torch.zeros(2, 4), num_samples=2)


# -- refresh ---------------------------------------------------------------------------------------------------------

COUNTED = ("norm._target_=parts.Counted", "allow=[parts]", "trainer.max_steps=8", "trainer.val_check_interval=4")


def counts(folder: Path, name: str) -> set[int]:
    state = read(folder / "checkpoints" / f"{name}.ckpt")["state_dict"]
    return {int(value) for key, value in state.items() if key.endswith("refreshes")}


@pytest.mark.parametrize("callbacks", ["checkpoints", "[ema,checkpoints]"])
def test_a_refresh_comes_before_each_step_and_is_put_back_after_a_validation(tmp_path, callbacks):
    words = (*COUNTED, f"callbacks={callbacks}")
    Counted.seen.clear()
    run(prepared(tmp_path / "whole", *words), tmp_path / "whole")
    assert counts(tmp_path / "whole", "last") == {8}
    (best,) = counts(tmp_path / "whole", "best")
    assert best in (4, 8)
    # In the fit's two validations, then validation and test of the best weights.
    assert list(dict.fromkeys(Counted.seen)) == list(dict.fromkeys([5, 9, best + 1]))
    flow, _ = load(tmp_path / "whole", ["parts"])
    assert {int(part.refreshes) for part in special(flow, Counted)} == {best + 1}

    run(prepared(tmp_path / "parts", *words, "trainer.max_steps=4"), tmp_path / "parts")
    resume(tmp_path / "parts", ["trainer.max_steps=8", "allow=[parts]"])
    if "ema" in callbacks:
        assert_same_run(tmp_path / "whole", tmp_path / "parts")
    for name in ("last", "best"):
        one, other = (read(tmp_path / half / "checkpoints" / f"{name}.ckpt")["state_dict"] for half in ("whole", "parts"))
        assert_same(one, other)


def test_parts_pass_a_refresh_on():
    flow = flow_of(IMAGE, partial(Multiscale, scheme=channels, step=step(before=[Counted]), levels=2))
    assert flow.refreshes and not flow_of(VECTOR, Leaf).refreshes
    flow.refresh()
    assert [int(part.refreshes) for part in special(flow, Counted)] == [1, 1]


# -- objectives ------------------------------------------------------------------------------------------------------


def test_an_objective_names_its_number_counts_steps_and_moves_what_it_trains(tmp_path):
    from laminar.runs import run as engine

    words = ("objective._target_=parts.Warm", "allow=[parts]", "callbacks=checkpoints", "trainer.max_steps=8")
    plain = prepared(tmp_path, *words)
    warm = Warm()
    build, engine.build = (
        engine.build,
        lambda node, *rest, **more: warm if node is plain["objective"] else build(node, *rest, **more),
    )
    try:
        run(plain, tmp_path)
    finally:
        engine.build = build
    assert warm.steps == list(range(8)) and set(warm.devices) == {torch.device("cpu")}
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert any(row["train/warm"] for row in rows) and any(row["val/bpd"] for row in rows)
    assert "train/bpd" not in rows[0] and "val/warm" not in rows[0]
    first = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    moved = len(first["optimizer_states"][0]["state"])
    flow, _ = load(tmp_path)
    assert moved == len(list(warm.trains(flow))) < len(list(flow.parameters()))


# -- views -----------------------------------------------------------------------------------------------------------


def test_locate_finds_the_one_part_and_shows_both_sides():
    flow = flow_of(VECTOR, Reals, partial(Repeat, parts=[partial(Elementwise, law=affine), Noisy], times=1), ActNorm)
    x = torch.randn(5, 4, dtype=torch.float64)
    before, part, after = flow.locate(Noisy)
    assert isinstance(part, Noisy) and len(before.parts) == 2 and len(after.parts) == 1
    h, first = before(x)
    h, second = part(h)
    z, third = after(h)
    torch.testing.assert_close(flow.prior.log_prob(z) + first + second + third, flow.log_prob(x))
    assert before.parts[1] is flow.transform.parts[1].parts[0]
    assert len(list(flow.named_parameters(remove_duplicate=False))) == len(list(flow.parameters()))


def test_locate_refuses_none_several_and_what_no_chain_shows():
    several = partial(Repeat, parts=[Noisy], times=2)
    hidden = partial(Multiscale, scheme=channels, step=step(after=[Noisy]))
    for space, parts, found in ((VECTOR, [Leaf], 0), (VECTOR, [several], 2), (IMAGE, [hidden], 0)):
        with pytest.raises(Refused, match=f"exactly one Noisy is needed.*has {found}"):
            flow_of(space, *parts).locate(Noisy)


@pytest.mark.parametrize("dequantization", [Uniform, variational], ids=["uniform", "variational"])
def test_the_density_behind_a_dequantizer(dequantization):
    """Over every unit cube it holds the probability of that cube's integers, and it samples with its log-prob."""
    flow = flow_of(TINY, dequantization, partial(Logit, alpha=0.05), vector_steps)
    density = flow.density()
    assert density.grade == "exact" and flow.grade == "bound"
    grid = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    u = torch.cartesian_prod(grid, grid)
    mass = torch.stack([density.log_prob(x + u).exp().mean() for x in enumerated(TINY).double()])
    torch.testing.assert_close(mass, integrated(flow, 200), rtol=1e-9, atol=1e-12)
    x, log_prob = density.sample_with_log_prob(50)
    torch.testing.assert_close(density.log_prob(x), log_prob, rtol=1e-8, atol=1e-8)
    assert flow_of(VECTOR, Reals).density().grade == "exact"
    plain = flow_of(VECTOR, Reals)
    assert plain.density() is plain and plain.leak(10) == 0.0


# -- ledger ----------------------------------------------------------------------------------------------------------


def test_nobody_hears_a_note_outside():
    ledger.note("kl", torch.ones(2))
    with ledger.noting() as notes:
        ledger.note("kl", torch.ones(2))
        with ledger.noting() as inner:
            ledger.note("nfe", torch.ones(2))
    assert list(notes) == ["kl"] and len(notes["kl"]) == 1 and list(inner) == ["nfe"]


def test_what_is_noted_is_logged(tmp_path):
    words = ("norm._target_=parts.Noting", "allow=[parts]", "callbacks=checkpoints", "trainer.max_steps=4")
    run(prepared(tmp_path, *words), tmp_path)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert any(row["train/first"] for row in rows) and any(row["val/first"] for row in rows)
    flow, _ = load(tmp_path, ["parts"])
    test = FlowDataModule(Digits(batch_size=8)).splits.test.values
    with noise.source(noise.mix(0, 2, 0, range(len(test)))), ledger.noting() as notes:
        flow.log_prob(test)
    logged = json.loads((tmp_path / "metrics.json").read_text())["test/first"]
    assert logged == pytest.approx(torch.cat(notes["first"][:1]).mean().item(), abs=1e-5)


def test_a_block_that_is_computed_again_notes_nothing_twice():
    part, x = Noting(VECTOR), torch.randn(3, 4, requires_grad=True)
    with ledger.noting() as notes:
        z, _ = torch.utils.checkpoint.checkpoint(part, x, use_reentrant=False)
    z.square().sum().backward()
    assert len(notes["first"]) == 1


# -- repeat, and what a layer is cooked with ---------------------------------------------------------------------------


def test_repeat_makes_copies_with_weights_of_their_own():
    repeat = disturb(Repeat(VECTOR, [partial(Elementwise, law=affine), Conv1x1], 3))
    assert [type(part) for part in repeat.parts] == [Elementwise, Conv1x1] * 3
    assert len({id(parameter) for parameter in repeat.parameters()}) == 6
    with pytest.raises(Refused, match=r"size\.steps=1 or more"):
        Repeat(VECTOR, [Leaf], 0)


def test_a_layer_refuses_what_it_is_not_cooked_with():
    with pytest.raises(Refused, match=r"layer=elementwise works on whole events.*choose layer=coupling"):
        Step(VECTOR, mask=Parity, layer=partial(Elementwise, law=affine))
    with pytest.raises(Refused, match=r"nothing splits the event here.*layer=elementwise"):
        Repeat(VECTOR, [coupling(net=mlp)], 2)


# -- evaluation takes gradients ----------------------------------------------------------------------------------------


def test_a_part_may_differentiate_in_an_evaluation(tmp_path):
    words = ("norm._target_=parts.Differentiating", "allow=[parts]", "callbacks=checkpoints", "trainer.max_steps=2")
    assert run(prepared(tmp_path, *words, "trainer.val_check_interval=2"), tmp_path)["test/bpd"] > 0


# -- context -----------------------------------------------------------------------------------------------------------


class Described(Source):
    """Vectors that come with two columns and a small image."""

    levels = None

    def read(self):
        generator = torch.Generator().manual_seed(0)
        values = torch.randn(60, 4, generator=generator)
        whole = Split.whole(values, columns=values[:, :2] + 1, picture=values.view(60, 1, 2, 2))
        return Splits(whole, None, whole.pick(torch.arange(20)))


def test_a_batch_carries_everything_that_rows_come_with():
    data = FlowDataModule(Described(batch_size=10))
    assert data.space.context == {"columns": (2,), "picture": (1, 2, 2)}
    x, context, index, epoch = data.first_batch()
    assert epoch == 0 and torch.equal(x, data.splits.train.values[index])
    assert torch.equal(context["columns"], x[:, :2] + 1) and torch.equal(context["picture"].flatten(1), x)
    flow = settled(Flow(data.space, partial(Chain, parts=[partial(step(net=mlp), mask=Parity)]), Gaussian, Given))
    assert flow.log_prob(x, context).shape == (10,) and flow.sample(10, context).shape == (10, 4)
    with pytest.raises(Refused, match="columns, picture"):
        flow.log_prob(x)


# -- spaces whose elements differ --------------------------------------------------------------------------------------

MIXED = Space((3,), levels=(4, None, 2))


def test_levels_and_bounds_may_differ_from_element_to_element():
    assert not MIXED.discrete and MIXED.unit == "nll" and Space((2,), levels=(4, 2)).unit == "bpd"
    assert Space((2,), levels=(4, 2)).num_bits == 1.5 and Space((2,), levels=(4, 4)).levels == 4
    assert Space(**MIXED.plain()) == MIXED and isinstance(MIXED.plain()["levels"], list)
    behind = Uniform(MIXED).codomain
    assert behind.levels is None and behind.upper == (4.0, None, 2.0) and behind.top is None
    assert behind.flattened().upper == behind.upper and behind.reshaped(3).upper is None
    with pytest.raises(Refused, match="dequantize before anything else"):
        MIXED.reshaped(3)
    with pytest.raises(Refused, match="2 entries for the 3 values"):
        Space((3,), levels=(4, 2))
    with pytest.raises(Refused, match="dequantization=uniform"):
        variational(MIXED)
    with pytest.raises(Refused, match=r"hold integers \(\(4, None, 2\) levels\)"):
        Reals(MIXED)


def test_a_mixed_event_scores_as_a_sum_and_an_integral():
    """One integer and one real: the importance-weighted density equals the integral over the integer's interval."""
    flow = flow_of(Space((2,), levels=(3, None)), Uniform, vector_steps)
    x = torch.tensor([[k, value] for k in range(3) for value in (-0.5, 0.7)])
    grid = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    u = torch.stack([grid, torch.zeros_like(grid)], 1)
    exact = torch.stack([flow.density().log_prob(row.double() + u).exp().mean() for row in x])
    torch.manual_seed(0)
    weights = flow.log_weights(x, num_samples=4000).exp()
    error = weights.std(0) / len(weights) ** 0.5
    assert ((weights.mean(0) - exact).abs() < 4.5 * error).all()
    assert torch.equal(flow.decode(flow.encode(x))[:, 0], x[:, 0].double())
    torch.testing.assert_close(flow.decode(flow.encode(x)), x.double())
    drawn = flow.sample(200)
    assert drawn.is_floating_point() and set(drawn[:, 0].tolist()) <= {0.0, 1.0, 2.0}
    raw = flow.density().sample(2000)
    outside = flow.transform.parts[0].outside(raw)
    assert torch.equal(outside, (raw[:, 0] < 0) | (raw[:, 0] >= 3)) and 0 < outside.float().mean() < 1


def test_probabilities_of_elements_with_unlike_levels_sum_to_one():
    space = Space((2,), levels=(4, 3))
    flow = flow_of(space, Uniform, partial(Logit, alpha=0.0), vector_steps)
    grid = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    u = torch.cartesian_prod(grid, grid)
    rows = torch.cartesian_prod(torch.arange(4.0), torch.arange(3.0)).double()
    total = sum(flow.density().log_prob(row + u).exp().mean().item() for row in rows)
    assert total == pytest.approx(1.0, abs=1e-3) and flow.leak(5000) == 0.0


# -- initialisation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [ActNorm, partial(ActNorm, per="element"), BatchNorm], ids=["channel", "element", "batch"])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_norm_starts_in_whichever_direction_it_is_asked(norm, backwards):
    part = norm(Space((3, 2, 2))).double()
    way = part.inverse if backwards else lambda x: part(x)[0]
    batch = torch.randn(400, 3, 2, 2, dtype=torch.float64) * 3 - 2
    with initialising():
        out = way(batch)
        if not isinstance(part, BatchNorm):  # whose averages go on
            way(batch * 7)
    assert part.initialized
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(out.std((0, 2, 3), correction=0), torch.ones(3, dtype=torch.float64), atol=1e-4, rtol=0)
    part.eval()
    torch.testing.assert_close(way(batch), out, atol=1e-9, rtol=0)


def test_an_actnorm_inside_an_inverse_starts_by_the_data():
    flow = Flow(VECTOR, partial(Chain, parts=[partial(Inverse, transform=ActNorm)]), Gaussian)
    batch = torch.randn(500, 4) * 5 + 3
    with initialising():
        flow.log_prob(batch)
    z = flow.encode(batch)
    assert z.mean().abs() < 1e-4 and (z.std() - 1).abs() < 1e-2


def test_a_library_s_first_training_batch_starts_the_parts():
    flow = Flow(VECTOR, partial(Chain, parts=[ActNorm, ActNorm]), Gaussian)
    batch = torch.randn(500, 4) * 5 + 3
    (-flow.log_prob(batch).mean()).backward()
    assert all(part.initialized for part in special(flow, SetByData))
    assert all(parameter.grad is not None for parameter in flow.parameters())
    assert flow.encode(batch).std().item() == pytest.approx(1, abs=1e-2)


def test_a_part_that_never_saw_data_refuses_to_evaluate():
    flow = Flow(VECTOR, partial(Chain, parts=[ActNorm]), Gaussian).eval()
    for ask in (lambda: flow.log_prob(torch.zeros(2, 4)), lambda: flow.sample(2)):
        with pytest.raises(Refused, match="ActNorm has never seen data"):
            ask()
    trained = settled(Flow(VECTOR, partial(Chain, parts=[ActNorm]), Gaussian))
    flow.load_state_dict(trained.state_dict())
    assert flow.sample(2).shape == (2, 4)
    blank = Flow(VECTOR, partial(Chain, parts=[ActNorm]), Gaussian)
    flow.load_state_dict(blank.state_dict())
    with pytest.raises(Refused, match="never seen data"):
        flow.sample(2)


def test_weights_from_before_the_flag_count_as_set():
    old = settled(BatchNorm(VECTOR)).state_dict()
    del old["initialized"]
    norm = BatchNorm(VECTOR).eval()
    norm.load_state_dict(old)
    assert norm(torch.ones(2, 4))[0].shape == (2, 4) and "initialized" not in old


def test_a_group_of_processes_refuses_to_start_by_rows_of_its_own(tmp_path):
    flow = Flow(VECTOR, partial(Chain, parts=[ActNorm]), Gaussian)
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        with pytest.raises(Refused, match="every process would start it by rows of its own"):
            flow.log_prob(torch.randn(9, 4))
        with initialising():
            flow.log_prob(torch.randn(9, 4))
        flow.log_prob(torch.randn(9, 4))
    finally:
        distributed.destroy_process_group()


def test_a_step_never_waits_for_a_flag(monkeypatch):
    space = Space((4, 4, 4))
    parts = [ActNorm, partial(step(net=partial(ConvNet, width=8, depth=1), before=[BatchNorm]), mask=partial(Channel))]
    flow = Flow(space, partial(Chain, parts=parts), lambda s: Gaussian(s))
    with initialising():
        flow.log_prob(torch.randn(9, 4, 4, 4))

    def wait(tensor):
        raise AssertionError("a tensor was asked for its value")

    monkeypatch.setattr(torch.Tensor, "__bool__", wait)
    monkeypatch.setattr(torch.Tensor, "item", wait)
    flow.log_prob(torch.randn(9, 4, 4, 4)).mean().backward()
