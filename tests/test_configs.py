"""Every page composes and builds; every combination that cannot work is refused with a sentence."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose as hydras
from hydra import initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from pages import CELEBA_HQ, CIFAR, CONF, DIGITS, IMAGENET64, MNIST, PLANE, composed, flow, members, parameters

from laminar.config.knobs import unread
from laminar.config.pages import sparing
from laminar.config.recipe import build, check_targets
from laminar.data.datamodule import FlowDataModule
from laminar.flows.compose.chain import links_of
from laminar.flows.initialise import initialising
from laminar.flows.layer.latent import Latent
from laminar.flows.space import Space
from laminar.refused import Refused

LABELLED = Space((1, 8, 8), levels=17, context={"label": (10,)})

FLOWS = {
    "nice": [MNIST, PLANE],
    "realnvp": [DIGITS, MNIST, CIFAR],
    "realnvp_flat": [DIGITS, PLANE],
    "glow": [DIGITS, CIFAR],
    "flowpp": [DIGITS, CIFAR],
    "flowpp_imagenet": [DIGITS, CIFAR],
    "nis": [DIGITS],
    "interlaced": [DIGITS, MNIST, CIFAR],
    "rqnsf": [DIGITS, PLANE],
    "nsf_coupling": [DIGITS, PLANE],
    "rqnsf_image": [DIGITS, CIFAR],
    "jet": [DIGITS, IMAGENET64],
    "gaussianization": [DIGITS, PLANE],
    "gaussian": [DIGITS, PLANE],
    "cdf": [DIGITS, PLANE],
    "made": [DIGITS, PLANE],
    "maf": [DIGITS, PLANE],
    "maf_mog": [DIGITS, PLANE],
    "naf": [DIGITS, PLANE],
    "umnn": [DIGITS, PLANE],
    "pixel_maf": [DIGITS, CIFAR],
    "iaf": [DIGITS, PLANE],
    "tarflow": [DIGITS, CIFAR, IMAGENET64],
    "tarflow_deep_shallow": [DIGITS, CIFAR],
    "t_naf": [DIGITS, PLANE],
    "nsf_ar": [DIGITS, PLANE],
    "table": [DIGITS, PLANE],
    "vae": [DIGITS, MNIST],
    "vae_mlp": [DIGITS, PLANE],
    "vae_iaf": [DIGITS, MNIST],
    "vlae": [DIGITS, MNIST],
    "vae_iaf_cifar10": [DIGITS, MNIST, CIFAR],
    "ffjord": [DIGITS, PLANE],
    "resflow": [DIGITS, MNIST, CIFAR],
    "iresnet": [DIGITS, CIFAR],
    "idensenet": [DIGITS, CIFAR],
    "resflow_mlp": [DIGITS, PLANE],
    "ffjord_image": [DIGITS, CIFAR],
    "cfm": [CIFAR, IMAGENET64],
    "cfm_mlp": [DIGITS, PLANE],
}
LATENT = {name: lambda space: 32 for name in ("vae", "vae_mlp", "vae_iaf", "vlae")}  # whose noise is of another size
LATENT["vae_iaf_cifar10"] = lambda space: 20 * 32 * space.event[1] * space.event[2] // 4
SMALL = {"realnvp": ["size.levels=2"], "glow": ["size.levels=2"]}


def test_every_flow_is_listed_here():
    assert sorted(FLOWS) == members("flow")


@pytest.mark.parametrize(("name", "space"), [(name, space) for name, spaces in FLOWS.items() for space in spaces])
def test_flows_compose_and_build(name, space):
    data = ["data=moons"] if space is PLANE else []
    built = flow(space, f"flow={name}", *data, *SMALL.get(name, []), device="meta")
    assert built.transform.codomain.size == (LATENT[name](space) if name in LATENT else space.size)


@pytest.mark.parametrize("name", FLOWS)
def test_a_recipe_picks_members_and_never_reaches_into_one(name):
    assert yaml.safe_load((CONF / "flow" / f"{name}.yaml").read_text()).keys() <= {"defaults", "step", "parts"}


# Where a member needs another flow than Glow, or another space than photographs.
ON_VECTORS = ("flow=realnvp_flat", "data=digits")
HOMES = {
    "mask=halves": (DIGITS, *ON_VECTORS),
    "mask=parity": (DIGITS, *ON_VECTORS),
    "mask=rqnsf": (DIGITS, *ON_VECTORS),
    "mask=bad": (DIGITS, "multiscale=flat"),
    "mask=good": (DIGITS, "multiscale=flat"),
    "mask=jet": (IMAGENET64, "multiscale=flat"),
    "mask=rqnsf_flat": (IMAGENET64, "multiscale=flat"),
    "mask=flowpp_imagenet64": (IMAGENET64, "multiscale=flat"),
    "mask=interlaced": (DIGITS, "flow=interlaced"),
    "net=mlp": (DIGITS, *ON_VECTORS),
    "net=mlp_nice": (DIGITS, *ON_VECTORS),
    "net=one_blob": (DIGITS, "flow=nis"),
    "prior=uniform": (DIGITS, "flow=nis"),
    "prior=beta": (DIGITS, "flow=nis"),
    **{f"prior=fitted_{kind}": (PLANE, "flow=table", "data=moons") for kind in ("mixture", "student")},
    **{f"coupling=mixture_{name}": (PLANE, "flow=cdf", "data=moons") for name in ("logistic_unit", "gaussian_unit")},
    "dequantization=none": (PLANE, "flow=realnvp_flat", "data=moons"),
    "dequantization=gaussian": (CIFAR, "preprocessing=symmetric"),
    "context=label": (LABELLED,),
    "context=columns": (Space((2,), context={"age": (1,)}), "flow=realnvp_flat", "data=moons"),
    "dequantization=declared": (Space((2,), levels=(3, None)), "flow=table", "data=table", "data.path=x.csv"),
    "preprocessing=standardise": (PLANE, "flow=table", "data=moons"),
    "context=label_dropout": (LABELLED,),
    "layer=elementwise": (DIGITS, "flow=gaussianization"),
    "layer=autoregressive": (DIGITS, "flow=iaf"),
    "net=made": (DIGITS, "flow=nsf_ar"),
    "net=made_residual": (DIGITS, "flow=maf"),
    "net=made_weight_norm": (DIGITS, "flow=maf"),
    "net=recurrent": (DIGITS, "flow=maf"),
    "net=transformer": (CIFAR, "flow=tarflow"),
    "net=transformer_shallow": (CIFAR, "flow=tarflow_deep_shallow"),
    "net=transformer_values": (DIGITS, "flow=t_naf"),
    "net=pixelcnn": (CIFAR, "flow=pixel_maf"),
    "net=masked_conv": (DIGITS, "flow=pixel_maf", "order=interleaved"),
    "net=reslinear": (DIGITS, *ON_VECTORS),
    **{f"net=concat{name}": (DIGITS, "flow=ffjord") for name in ("", "_silu", "_squash", "_squash_softplus")},
    "layer=continuous": (DIGITS, "flow=ffjord"),
    "layer=residual": (DIGITS, "flow=resflow"),
    "norm=actnorm_residual": (DIGITS, "flow=resflow"),
    **{f"multiscale={name}": (CIFAR, "flow=resflow") for name in ("residual", "residual_halves", "iresnet", "idensenet")},
    **{f"net=lipschitz{name}": (CIFAR, "flow=resflow") for name in ("", "_elu", "_densenet")},
    "net=lipschitz_mlp": (DIGITS, "flow=resflow_mlp"),
    "layer=continuous_fixed": (DIGITS, "flow=ffjord"),
    "mask=whole": (DIGITS, "flow=ffjord_image"),
    "net=concat_conv": (DIGITS, "flow=ffjord_image"),
    "net=unet": (CIFAR, "flow=cfm"),
    **{f"{group}={name}": (DIGITS, "flow=ffjord") for group in ("trace", "solver") for name in members(group)},
    **{f"trace={name}": (DIGITS, "flow=resflow_mlp") for name in ("roulette", "truncated")},
    **{f"layer={name}": (DIGITS, "flow=vae") for name in ("variational", "variational_local")},
    "layer=variational_mlp": (DIGITS, "flow=vae_mlp"),
    "layer=bidirectional": (DIGITS, "flow=vae_iaf_cifar10"),
    **{f"layer={name}": (DIGITS, "flow=gaussianization") for name in ("planar", "radial")},
    **{f"posterior={name}": (DIGITS, "flow=vae") for name in members("posterior")},
    **{f"observation={name}": (DIGITS, "flow=vae") for name in members("observation")},
    "posterior=fixed_variance": (DIGITS, "flow=vlae"),
    "observation=bernoulli": (Space((1, 8, 8), levels=2), "flow=vae"),
    "observation=gaussian": (PLANE, "flow=vae_mlp"),
    "order=sequential": (DIGITS, "flow=maf"),
    "order=reversed": (DIGITS, "flow=maf"),
    "order=random": (DIGITS, "flow=maf"),
    "order=dag": (PLANE, "flow=maf", "data=moons", "data.parents=[[],[0]]"),
    "order=interleaved": (CIFAR, "flow=pixel_maf", "net=masked_conv", "size.width=48"),
    "order=spiral": (DIGITS, "flow=maf", "parts=[${dequantization},${preprocessing},${layer}]"),
}
KNOBS = ("layer", "coupling", "mask", "order", "multiscale", "net", "prior", "mix", "norm")
KNOBS += ("trace", "solver", "observation", "posterior", "dequantization", "preprocessing", "context")
# Programs and homes that have a length of their own, or none
FIXED = ("mask", "net=unet", "order=spiral", "layer=variational", "layer=bidirectional", "observation")
FIXED += tuple(f"posterior={name}" for name in ("gaussian", "fixed_variance"))


@pytest.mark.parametrize("choice", [f"{group}={name}" for group in KNOBS for name in members(group)])
def test_members_of_the_knobs_compose_and_build(choice):
    space, *words = HOMES.get(choice, (CIFAR,))
    sizes = [] if choice.startswith(FIXED) else ["size.steps=1"]
    built = flow(space, *(words if "flow" in "".join(words) else ["flow=glow", *words]), choice, *sizes, device="meta")
    assert sum(parameter.numel() for parameter in built.parameters()) > 0


@pytest.mark.parametrize("name", members("optimizer"))
def test_optimizers_build(name):
    page = composed(f"optimizer={name}").optimizer
    optimizer = build(page, "optimizer")([torch.zeros(1, requires_grad=True)])
    assert optimizer.param_groups[0]["lr"] == page.lr == (1e-2 if name == "sgd" else 1e-3)


@pytest.mark.parametrize("name", members("scheduler"))
def test_schedulers_build(name):
    recipe = build(composed(f"scheduler={name}").scheduler, "scheduler")["recipe"]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    rate = optimizer.param_groups[0]["lr"] if recipe is None else recipe(optimizer).get_last_lr()[0]
    assert 0 < rate <= 1


def test_the_exponential_schedule_holds_before_it_decays():
    words = ("warmup=2", "hold=3", "decay=0.5", "floor=0.3")
    config = composed("scheduler=exponential", *(f"scheduler.recipe.{word}" for word in words))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule, rates = build(config.scheduler, "scheduler")["recipe"](optimizer), []
    for _ in range(9):
        rates += schedule.get_last_lr()
        optimizer.step()
        schedule.step()
    assert rates == [0.5, 1, 1, 1, 1, 1, 0.5, 0.3, 0.3]


@pytest.mark.parametrize("name", members("objective"))
def test_objectives_build(name):
    if name == "distillation":
        with pytest.raises(Refused, match=r"give its folder, objective\.teacher="):
            build(composed(f"objective={name}").objective, "objective")
        return
    assert callable(build(composed(f"objective={name}").objective, "objective"))


@pytest.mark.parametrize("name", members("data"))
def test_data_build(name):
    needed = {"npz": ["path=rows.npz"], "table": ["path=rows.csv"], "image_folder": ["path=photos", "size=32"]}
    config = composed(f"data={name}", *(f"data.{word}" for word in needed.get(name, [])))
    assert build(config.data, "data").batch_size == config.data.batch_size


@pytest.mark.parametrize("choice", [f"{g}={n}" for g in ("trainer", "callbacks", "logger", "debug") for n in members(g)])
def test_engine_pages_compose_within_the_allow_list(choice):
    config = OmegaConf.to_container(composed(choice), resolve=True)
    for slot in ("trainer", "callbacks", "logger"):
        check_targets(config.get(slot), slot)


# Experiments

SPACES = {"digits": DIGITS, "mnist": MNIST, "cifar10": CIFAR, "moons": PLANE, "32": CIFAR, "64": IMAGENET64, "256": CELEBA_HQ}
SPACES |= {name: PLANE for name in ("eight_gaussians", "checkerboard")}
SPACES |= {"mnist_binary": Space((1, 28, 28), levels=2)}
SPACES |= {"picture": PLANE, "nothing": PLANE, "mixture_1d": Space((1,)), "integers_1d": Space((1,), levels=8)}
SPACES |= {name: Space((n,)) for name, n in (("power", 6), ("gas", 8), ("hepmass", 21), ("miniboone", 43), ("bsds300", 63))}
SPACES |= {"two_moons_simulator": Space((2,), context={"x": (2,)})}
NEEDED = {"npz": ["data.path=train.npz"], "image_folder": ["data.path=photos"]}


def page(name: str) -> tuple[str, dict]:
    text = (CONF / "experiment" / f"{name}.yaml").read_text()
    return text, yaml.safe_load(text)


def data_of(name: str) -> str:
    """The data set of an experiment, or of the one that it varies."""
    defaults = page(name)[1]["defaults"]
    chosen = [choice["override /data"] for choice in defaults if isinstance(choice, dict) and "override /data" in choice]
    return chosen[0] if chosen else data_of(next(choice for choice in defaults if choice in members("experiment")))


def space_of(name: str) -> Space:
    """The data's Space; that of arrays and folders is in the experiment's name."""
    data = data_of(name)
    side = re.search(r"\d*$", name)[0] or "64"
    if name == "iresnet_mnist":
        return Space((1, 32, 32), levels=256)  # padded
    return SPACES[data if data in SPACES else side]


@pytest.mark.parametrize("name", members("experiment"))
def test_experiments_compose_and_build(name):
    space, words = space_of(name), [f"experiment={name}", *NEEDED.get(data_of(name), [])]
    config = composed(*words)
    assert config.name == name
    built = flow(space, *words, device="meta")
    latents = [link for link in links_of(built.transform) if isinstance(link, Latent)]
    assert built.transform.codomain.size == (latents[0].codomain if latents else space).size
    weight = torch.zeros(1, requires_grad=True)
    optimizer, schedule = build(config.optimizer, "optimizer")([weight]), build(config.scheduler, "scheduler")["recipe"]
    if schedule is not None:
        schedule(optimizer)
    assert build(config.data, "data").batch_size == config.data.batch_size
    check_targets(OmegaConf.to_container(config.callbacks, resolve=True), "callbacks")


@pytest.mark.parametrize("name", members("experiment"))
def test_an_experiment_states_its_command_and_the_number_to_expect(name):
    head = "".join(line for line in page(name)[0].splitlines(keepends=True) if line.startswith("#"))
    assert f"laminar-train experiment={name}" in head
    assert re.search(r"Expect|No published number", head)


@pytest.mark.parametrize("variant", members("variant"))
def test_variants_belong_to_a_sweep(variant):
    sweeps = [page(name)[1].get("hydra", {}).get("sweeper", {}).get("params", {}) for name in members("experiment")]
    assert any(variant in params.get("variant", "").split(",") for params in sweeps)


EQUAL = {  # sweep -> parameters, and by how much its variants may differ
    "posterior_or_prior": (512_000, 0.01),
    "families_digits": (717_000, 0.03),
}


@pytest.mark.parametrize("name", EQUAL)
def test_variants_of_a_comparison_are_of_one_size(name):
    (count, share), space = EQUAL[name], space_of(name)
    found = {variant: parameters(space, f"experiment={name}", f"variant={variant}") for variant in SWEPT[name]}
    assert len(found) >= 3 and all(abs(number / count - 1) <= share for number in found.values()), found


def test_a_variant_carries_its_published_number():
    published = {
        name: composed("experiment=flowpp_ablation", f"variant=flowpp_{name}").published
        for name in ("uniform", "affine", "no_attention", "full")
    }
    assert published == {"uniform": 3.292, "affine": 3.200, "no_attention": 3.193, "full": 3.165}


def test_a_default_may_be_another_groups_choice(tmp_path):
    """As Hydra has it, though choices are collected only where a list of defaults refers to them."""
    for page, text in {"root": "defaults: [fruit: pear, tree: '${fruit}']", "fruit/pear": "a: 1", "tree/pear": "b: 2"}.items():
        (tmp_path / page).parent.mkdir(exist_ok=True)
        (tmp_path / f"{page}.yaml").write_text(text)
    with sparing(), initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert hydras("root") == {"fruit": {"a": 1}, "tree": {"b": 2}}


def test_the_command_line_has_the_last_word():
    config = composed("experiment=realnvp_cifar10", "coupling=additive", "net=convnet", "size.width=7", "optimizer.lr=1")
    assert config.coupling._target_.endswith("Additive") and config.net._target_.endswith("ConvNet")
    assert (config.size.width, config.net.width, config.optimizer.lr, config.data.batch_size) == (7, 7, 1, 64)


SWEPT = {name: page(name)[1]["hydra"]["sweeper"]["params"]["variant"].split(",") for name in EQUAL}
CPU_SIZED = [
    ("experiment=nice_digits",),
    ("experiment=realnvp_digits",),
    ("experiment=realnvp_moons",),
    ("experiment=cfm_moons",),
    ("experiment=nis_digits",),
    *(("experiment=flowpp_ablation_digits", f"variant=small_{name}") for name in ("full", "uniform", "affine", "no_attention")),
    *(("experiment=partitioning", f"variant=partition_{name}") for name in ("good", "bad")),
    *(("experiment=posterior_or_prior", f"variant={name}", "data=digits_binary") for name in SWEPT["posterior_or_prior"]),
    *(("experiment=families_digits", f"variant={name}") for name in SWEPT["families_digits"]),
    ("experiment=glow_ablation", "data=digits", "size.width=32", "size.steps=4", "size.levels=2", "mix=reverse"),
]


@pytest.mark.parametrize("words", CPU_SIZED, ids=lambda words: " ".join(words[:2]))
def test_experiments_of_a_cpus_size_take_two_steps(words):
    config = composed(*words)
    data = FlowDataModule(build(config.data, "data"), build(config.get("dequantization"), "flow"), config.seed)
    torch.manual_seed(0)
    built = build(config.flow, "flow")(data.space)
    x = data.first_batch()[0][:32]
    with initialising():
        built.log_prob(x)
    optimizer = build(config.optimizer, "optimizer")(built.parameters())
    objective = build(config.objective, "objective")
    before = [parameter.detach().clone() for parameter in built.parameters()]
    for _ in range(2):
        loss = -objective(built, x, {}, 0).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.isfinite()
    assert any(not torch.equal(old, new) for old, new in zip(before, built.parameters(), strict=True))


@pytest.mark.slow
def test_a_sweep_by_an_experiment_ends_with_a_table_and_pictures_of_the_masks(tmp_path):
    words = ("experiment=partitioning", "size.width=4", "size.depth=1", "trainer.max_steps=2", "trainer.val_check_interval=2")
    engine = ("logger=csv", "callbacks=masks", "scheduler.recipe.warmup=1", "data.batch_size=32")
    command = [sys.executable, "-m", "laminar.commands.train", *words, *engine, f"hydra.sweep.dir={tmp_path}/sweep"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "sweep" / "table.csv").open()))
    assert [row["variant"] for row in rows] == ["partition_good", "partition_bad"]
    assert all(float(row["test/bpd"]) > 0 for row in rows)
    assert {path.parents[1].name for path in Path(tmp_path, "sweep").rglob("masks.png")} == {"0", "1"}


# What cannot work

WRONG = {
    "a vector mask on images": (CIFAR, "flow=glow mask=parity", "mask=parity splits vectors.*choose mask=checkerboard"),
    "halves on images": (CIFAR, "flow=realnvp mask=halves", "mask=halves splits vectors"),
    "an image mask on vectors": (DIGITS, "flow=nice mask=checkerboard", "mask=checkerboard splits images.*mask=parity"),
    "a squeeze on vectors": (DIGITS, "flow=realnvp_flat mask=channel", "squeeze reshapes images.*mask for vectors"),
    "an image net on vectors": (DIGITS, "flow=nice net=convnet", "net=convnet reads images.*choose net=mlp"),
    "a vector net on images": (CIFAR, "flow=glow net=mlp", "net=mlp reads vectors.*choose net=convnet"),
    "a mask that moves nothing": (Space((1,), 4), "flow=realnvp_flat", "mask=halves would move nothing"),
    "levels that leave one channel": (DIGITS, "flow=realnvp mask=good", "would move nothing.*single channel.*level 1 of 2"),
    "five halvings of 28 pixels": (MNIST, "flow=glow size.levels=5", "squeeze by 2 does not divide.*fewer size.levels"),
    "a checkerboard 7 wide": (MNIST, "flow=realnvp size.levels=3", "needs an even width.*fewer size.levels"),
    "variational on a table": (PLANE, "flow=realnvp_flat dequantization=variational", "=variational is for integers"),
    "uniform on a table": (PLANE, "flow=realnvp_flat dequantization=uniform", "choose dequantization=none"),
    "none on integers": (DIGITS, "flow=realnvp dequantization=none", "no upper bound.*dequantization=uniform"),
    "logit on a table": (
        PLANE,
        "flow=realnvp_flat dequantization=none",
        "preprocessing=logit rescales",
    ),
    "labels that are not there": (DIGITS, "flow=glow context=label", "the data have none"),
    "a bounded prior": (CIFAR, "flow=glow prior=uniform", "prior=uniform has no density outside"),
    "bins that fill the interval": (CIFAR, "flow=rqnsf_image coupling.bins=1000", "coupling.min_bin_width=0.001 times"),
    "no components": (CIFAR, "flow=flowpp coupling.components=0", "components"),
    "attention on large images": (CELEBA_HQ, "flow=flowpp dequantization=uniform", "GiB of attention.*squeeze more"),
    "heads that do not divide": (CIFAR, "flow=flowpp size.width=30", "no multiple of 4"),
    "a knob that nothing reads": (CIFAR, "flow=nis +norm=actnorm", "norm would change nothing"),
    "a size that nothing reads": (CIFAR, "flow=nis size.levels=2", "size.levels would change nothing.*size.depth, size.steps"),
    "a layer for whole events in a step": (
        DIGITS,
        "flow=realnvp_flat layer=elementwise",
        "works on whole events.*layer=coupling",
    ),
    "a coupling without a mask": (DIGITS, "flow=gaussianization layer=coupling +net=mlp", "nothing splits the event here"),
    "an exact trace of photographs": (CIFAR, "flow=ffjord", "trace=exact takes a column.*3072 .*choose trace=hutchinson"),
    "a trace for a series": (DIGITS, "flow=ffjord trace=roulette", "trace=roulette .*choose trace=exact or trace=hutchinson"),
    "a series without terms": (DIGITS, "flow=resflow trace=hutchinson", "trace=hutchinson .*choose trace=roulette"),
    "an exact determinant of photographs": (CIFAR, "flow=resflow trace=exact", "trace=exact takes.*choose trace=roulette"),
    "a coefficient of 1": (DIGITS, "flow=resflow net.coefficient=1", "net.coefficient=1 bounds.*a number between 0 and 1"),
    "an unbounded net in a residual layer": (DIGITS, "flow=resflow net=convnet", "net=convnet has no bounded.*net=lipschitz"),
    "a bounded net in a coupling": (DIGITS, "flow=realnvp_flat net=lipschitz_mlp", "net=lipschitz is what.*choose net=mlp"),
    "a residual layer in a step": (
        DIGITS,
        "flow=realnvp_flat layer=residual net=lipschitz_mlp +trace=exact",
        "works on whole events.*layer=coupling",
    ),
    "no blocks": (DIGITS, "flow=resflow size.steps=0", "size.steps=0 blocks"),
    "chances above 1": (DIGITS, "flow=resflow trace.distribution=geometric", "trace.rate=2.0 of.*between 0 and 1"),
    "a net without the time": (DIGITS, "flow=ffjord net=mlp", "net=mlp does not know the time.*choose net=concat"),
    "a velocity in a coupling": (DIGITS, "flow=realnvp_flat net=concat", "net=concat is a velocity.*choose net=mlp"),
    "a continuous layer in a step": (
        DIGITS,
        "flow=realnvp_flat layer=continuous net=concat +trace=exact +solver=dopri5",
        "works on whole events.*layer=coupling",
    ),
    "a tolerance of nothing": (DIGITS, "flow=ffjord solver.rtol=0", "solver.rtol=0.* must be above 0"),
    "a continuous layer without time": (DIGITS, "flow=ffjord layer.end=0", "layer.end=0"),
    "grey values for bernoulli": (DIGITS, "flow=vae observation=bernoulli", "17 levels.*observation=discretized_logistic"),
    "reals for integers": (PLANE, "flow=vae_mlp observation=bernoulli", "bernoulli scores integers.*observation=gaussian"),
    "a dequantizer before a variational layer": (
        DIGITS,
        "flow=vae parts=[${dequantization},${layer}]",
        "put no dequantizer before the layer",
    ),
    "an image decoder for vectors": (DIGITS, "flow=vae_mlp layer=variational", "net=resconv reads images"),
    "a vector encoder for images": (DIGITS, "flow=vae layer=variational_mlp", "net=mlp reads vectors"),
    "a bidirectional layer on vectors": (
        PLANE,
        "flow=vae_iaf_cifar10 data=moons",
        "layer=bidirectional is made of convolutions",
    ),
    "a bidirectional layer of too many levels": (MNIST, "flow=vae_iaf_cifar10 size.levels=3", "take fewer size.levels"),
    "a dequantizer before a bidirectional layer": (
        DIGITS,
        "flow=vae_iaf_cifar10 parts=[${dequantization},${layer}]",
        "put no dequantizer before the layer",
    ),
    "no latents": (DIGITS, "flow=vae size.latent=0", "layer.latent=0 leaves nothing"),
    "a key that nothing reads": (CIFAR, "flow=nis +speed=11", "speed would change nothing"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_work_is_refused_with_a_sentence(case):
    space, words, sentence = WRONG[case]
    with pytest.raises(Refused, match=sentence) as refusal:
        flow(space, *words.split(), device="meta")
    assert "\n" not in str(refusal.value)


def test_a_default_that_a_flow_does_not_read_is_dropped_and_a_choice_refused():
    config = {"flow": {"prior": "${prior}"}, "prior": {}, "mask": {}, "preprocessing": {}, "seed": 0}
    assert unread(config, ["data=moons", "seed=1"]) == ["mask", "preprocessing"]  # the data page's choice is no person's
    for words in (["mask=parity"], ["mask.flip=true"], ["+mask=parity"], ["experiment=realnvp_digits"]):
        with pytest.raises(Refused, match="mask would change nothing: this flow reads prior"):
            unread(config, words)
    with pytest.raises(Refused, match="mask would change nothing"):
        unread(config, ["variant=partition_bad"])
    assert unread(config, ["~mask", "experiment=realnvp_moons"]) == ["mask", "preprocessing"]


def test_what_a_flow_does_not_read_is_in_no_config():
    config = composed("flow=realnvp_flat", "parts=[${dequantization}]")
    assert not {"preprocessing", "multiscale", "mask", "net", "step"} & config.keys() and "dequantization" in config


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("flow=gloww", "Could not find 'flow/gloww'"),
        ("coupling=affin", "Could not find 'coupling/affin'"),
        ("size.withd=3", "withd"),
        ("flow=nis norm=actnorm", "Could not override 'norm'"),
        ("variant=flowpp_full", "Could not override 'variant'"),
        ("experiment=nice_digits variant=flowpp_full", "Could not override 'variant'"),
    ],
)
def test_misspelt_words_are_refused_by_hydra(words, sentence):
    with pytest.raises(HydraException, match=sentence):
        composed(*words.split())
