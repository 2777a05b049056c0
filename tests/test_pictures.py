"""Pictures: what they show is true, and it is the same every time."""

from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from importlib import import_module
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from laminar.flows import noise
from laminar.flows.compose.chain import Chain
from laminar.flows.compose.multiscale import Multiscale
from laminar.flows.context.label import Label
from laminar.flows.coupling.affine import Affine, Bounded
from laminar.flows.dequantization.uniform import Uniform
from laminar.flows.draw import draw
from laminar.flows.flow import Flow
from laminar.flows.layer.coupling import Coupling
from laminar.flows.layer.step import Step
from laminar.flows.mask.channel import Channel
from laminar.flows.mask.checkerboard import Checkerboard
from laminar.flows.mask.halves import Halves
from laminar.flows.mask.scheme import Scheme
from laminar.flows.net.mlp import MLP
from laminar.flows.preprocessing.logit import Logit
from laminar.flows.prior.gaussian import Gaussian
from laminar.flows.prior.logistic import Logistic
from laminar.flows.reshape.flatten import Flatten
from laminar.flows.reshape.squeeze import Squeeze
from laminar.flows.space import Space, rows_of
from laminar.flows.transform import Transform
from laminar.pictures import bits, curves, densities, images, latents, layers, masks
from laminar.pictures.figure import SUBJECT, about, subject
from laminar.pictures.page import page
from laminar.pictures.samples import samples
from laminar.pictures.sheet import grid, pixels, save, sheet
from laminar.training.logger.csv import CSV, read


class Pointwise(nn.Module):
    """A 1x1 network that really depends on what it sees, and on the label."""

    def __init__(self, seen, asked, arity):
        super().__init__()
        self.arity, self.out = arity, asked.event[0]
        self.weights = nn.Conv2d(seen.event[0] + sum(n for (n,) in seen.context.values()), arity * asked.event[0], 1)

    def forward(self, x, context=None):
        for vector in (context or {}).values():
            x = torch.cat([x, vector[:, :, None, None].expand(-1, -1, *x.shape[2:])], 1)
        return self.weights(x).unflatten(1, (self.arity, self.out))

    def start(self, params):
        pass


LAW = partial(Affine, scale=Bounded(1.0))
SCHEME = Scheme(every=[[partial(Checkerboard), 2], partial(Squeeze), [partial(Channel), 2]])


def image_flow(event=(1, 4, 4), levels=8, classes=0, depth=2) -> Flow:
    torch.manual_seed(0)
    space = Space(event, levels, context={"label": (classes,)} if classes else {})
    body = partial(Multiscale, scheme=SCHEME, levels=depth, step=partial(Step, layer=partial(Coupling, law=LAW, net=Pointwise)))
    chain = partial(Chain, parts=[Uniform, Logit, body])
    return Flow(space, chain, Gaussian, **({"context": Label} if classes else {})).eval()


def flat_flow() -> Flow:
    torch.manual_seed(0)
    net = partial(MLP, width=16, depth=1)
    scheme = Scheme(every=[[partial(Halves), 2]])
    body = partial(Multiscale, scheme=scheme, step=partial(Step, layer=partial(Coupling, law=LAW, net=net)))
    return Flow(Space((2,)), partial(Chain, parts=[body]), Gaussian).eval()


def stored(flow: Flow, n: int) -> torch.Tensor:
    return torch.randint(flow.space.levels, (n, *flow.space.event), generator=torch.Generator().manual_seed(1)).byte()


def test_sample_i_depends_on_the_seed_and_i_alone():
    flow = image_flow()
    many = draw(flow, 7, chunk=3)
    assert torch.equal(many[:4], draw(flow, 4, chunk=64))
    assert not torch.equal(many, draw(flow, 7, seed=1))
    assert len({tuple(image.flatten().tolist()) for image in many}) == 7


def test_pictures_leave_the_training_noise_alone():
    flow = image_flow()
    state = torch.get_rng_state()
    images.samples(flow, 4)
    latents.reconstructions(flow, stored(flow, 3))
    bits.bits_of_pixels(flow, stored(flow, 1))
    images.by_level(flow, 2)
    assert torch.equal(state, torch.get_rng_state())


def test_levels_span_black_to_white_and_pixels_stay_crisp():
    image = torch.tensor([[[[0, 16], [8, 4]]]], dtype=torch.uint8)
    rgb = pixels(image, 17)
    assert rgb.shape == (1, 2, 2, 3) and rgb[0, :, :, 0].tolist() == [[0, 255], [128, 64]]
    drawn = np.asarray(sheet([rgb], gap=3))
    side = np.unique(np.where((drawn == 128).all(-1))[0]).size
    assert (drawn == 128).all(-1).sum() == side**2 and side > 8  # one enlarged pixel is one square
    assert set(np.unique(drawn[..., 0])) == {0, 64, 128, 255}


def test_grid_holds_every_image():
    rgb = np.stack([np.full((2, 2, 3), 10 * i + 1, np.uint8) for i in range(7)])
    assert {10 * i + 1 for i in range(7)} <= set(np.unique(np.asarray(grid(rgb))))


def test_reconstruction_is_exact_and_an_interpolation_ends_at_its_images():
    for classes in (0, 3):
        flow = image_flow(classes=classes)
        x = stored(flow, 5)
        context = {"label": torch.arange(5) % classes} if classes else None
        back, error = latents.reconstruct(flow, x, context)
        assert error == 0 and torch.equal(back, x)
        line = latents.interpolate(flow, x[:2], x[2:4], rows_of(context, slice(2)), steps=5)
        assert torch.equal(line[:, 0], x[:2]) and torch.equal(line[:, -1], x[2:4])
        assert not torch.equal(line[:, 2], x[:2])


def test_a_broken_inverse_is_seen():
    flow = image_flow()
    step = flow.transform.parts[-1].bodies[0].parts[0]
    step.coupling.inverse = lambda given, moved, context=None: moved + 0.5
    assert latents.reconstruct(flow, stored(flow, 5))[1] > 0


def test_bits_of_pixels_against_the_enumerated_distribution():
    """Two pixels of four levels: all 16 images enumerated, conditionals by summation."""

    class Mix(Transform):
        """z = (a, b + a/2): a dependence that a map of the pixels must see."""

        def forward(self, x, context=None):
            return torch.stack([x[:, 0], x[:, 1] + 0.5 * x[:, 0]], 1), x.new_zeros(len(x))

    space = Space((1, 1, 2), 4)
    flow = Flow(space, partial(Chain, parts=[Uniform, Flatten, partial(Mix)]), Logistic)
    x = torch.cartesian_prod(torch.arange(4), torch.arange(4)).view(16, 1, 1, 2).byte()
    with noise.centre():
        joint = flow.log_prob(x).exp().view(4, 4).double()
    first = -(joint / joint.sum(0)).log2()
    second = -(joint / joint.sum(1, keepdim=True)).log2()
    expected = torch.stack([first.flatten(), second.flatten()], 1).view(16, 1, 2)
    torch.testing.assert_close(bits.bits_of_pixels(flow, x).double(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("levels", [17, 33, 256])
def test_bits_of_pixels_of_the_uniform_distribution_are_all_of_them(levels):
    class Flat(Gaussian):
        def log_prob(self, z):
            return z.new_zeros(len(z))

    flow = Flow(Space((3, 2, 2), levels), partial(Chain, parts=[Uniform]), Flat)
    found = bits.bits_of_pixels(flow, stored(flow, 2))
    torch.testing.assert_close(found, torch.full((2, 2, 2), 3 * np.log2(levels), dtype=found.dtype))


def test_bits_of_pixels_of_many_levels_by_quadrature():
    """256 levels: the trapezoid rule against the full sum, for a smooth density."""

    class Wide(Gaussian):
        def log_prob(self, z):
            return (-0.5 * ((z - 100) / 20) ** 2).sum((1, 2, 3))

    flow = Flow(Space((1, 1, 1), 256), partial(Chain, parts=[Uniform]), Wide)
    x = torch.tensor([0, 70, 100, 130, 180], dtype=torch.uint8).view(5, 1, 1, 1)
    weights = (-0.5 * ((torch.arange(256).double() + 0.5 - 100) / 20) ** 2).exp()
    expected = -(weights[x.long().flatten()] / weights.sum()).log2()
    torch.testing.assert_close(bits.bits_of_pixels(flow, x).flatten().double(), expected, atol=0.03, rtol=0.01)


@pytest.mark.parametrize("classes", [0, 3])
def test_a_bits_map_shows_every_pixel_of_as_many_images_as_the_time_allows(tmp_path, monkeypatch, classes):
    flow, shown = image_flow(event=(1, 8, 8), classes=classes), []
    x, context = stored(flow, 3), {"label": torch.tensor([0, 1, 2])} if classes else None
    monkeypatch.setattr(
        bits, "bits_of_pixels", lambda flow, x, context, part: shown.append((x, part)) or torch.rand(len(x), 8, 8)
    )
    bits.bits_map(flow, x, tmp_path / "bits.png", context, seconds=1e6)
    assert torch.equal(shown[0][0], x) and shown[0][1] == (slice(0, 8), slice(0, 8))
    monkeypatch.undo()
    count, part = bits.affordable(flow, x, context, seconds=1e-9)
    assert count == 1 and part == (slice(2, 6), slice(2, 6))
    full = bits.bits_of_pixels(flow, x[:1], rows_of(context, slice(1)))
    torch.testing.assert_close(bits.bits_of_pixels(flow, x[:1], rows_of(context, slice(1)), part), full[:, 2:6, 2:6])
    bits.bits_map(flow, x, tmp_path / "part.png", context, seconds=1e-9)
    assert all(min(Image.open(tmp_path / name).size) > 300 for name in ("bits.png", "part.png"))


def test_levels_redraw_their_own_noise_alone():
    flow = image_flow(event=(1, 8, 8))
    picture = images.by_level(flow, n=4)
    assert picture.width > 4 * 40
    flat = image_flow(depth=1)
    assert images.multiscale_of(flat) is None and images.multiscale_of(flow) is not None


def test_masks_show_what_is_given_moved_and_let_go():
    found = list(masks.patterns(image_flow()))
    assert [level for level, _ in found] == [0, 0, 0, 0, 1, 1, 1, 1]
    first, flipped = found[0][1], found[1][1]
    parity = (torch.arange(4)[:, None] + torch.arange(4)) % 2
    assert torch.equal(first[0], (1 + parity).byte()) and torch.equal(flipped[0], (2 - parity).byte())
    squeezed = found[2][1]  # channels 0 and 1 of a squeeze are the upper rows of each 2x2 block
    assert squeezed[0].tolist() == [[1] * 4, [2] * 4, [1] * 4, [2] * 4]
    for _, pattern in found[4:]:
        assert pattern.eq(0).sum() == 8 and pattern.eq(1).sum() == pattern.eq(2).sum() == 4


def test_masks_agree_with_a_poke_at_the_flow():
    """Where a value is given, the step's own output repeats it; where it is moved, it does not."""
    flow = image_flow(depth=1)
    step = flow.transform.parts[-1].bodies[0].parts[0]
    x = torch.randn(3, 1, 4, 4)
    changed = (step(x)[0] != x).all(0)
    assert torch.equal(changed, next(masks.patterns(flow))[1] == 2)


def test_density_integrates_to_one_and_lies_where_the_samples_lie(tmp_path):
    flow = flat_flow()
    low, high = torch.tensor([-9.0, -8.0]), torch.tensor([9.0, 10.0])
    log_prob, mass = densities.density_on_grid(flow, low, high, resolution=150)
    assert abs(mass - 1) < 1e-3
    point = torch.tensor([[-9 + 18 * (30 + 0.5) / 150, -8 + 18 * (70 + 0.5) / 150]])
    torch.testing.assert_close(log_prob[70, 30].float(), flow.log_prob(point)[0].detach(), atol=1e-4, rtol=1e-4)
    data = draw(flow, 500)
    assert densities.densities(flow, data, tmp_path / "density.png") > 0.9
    assert Image.open(tmp_path / "density.png").width > 1000


def test_curves_need_something_to_draw(tmp_path):
    logger = CSV(tmp_path)
    logger.log_metrics({"lr": 1.0}, 0)
    assert not curves.curves(read(tmp_path / "metrics.csv"), tmp_path / "curves.png")
    for step in range(30):
        logger.log_metrics({"train/bpd": 5 - step / 10}, step)
    logger.log_metrics({"val/bpd": 2.5}, 20)
    logger.log_metrics({"val/bpd": float("nan")}, 29)
    assert curves.curves(read(tmp_path / "metrics.csv"), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_one_validation_is_seen_and_so_is_the_one_that_is_reported(tmp_path, monkeypatch):
    kept = watched(monkeypatch, "curves")
    assert curves.curves([{"step": "9", "val/bpd": "2.973"}], tmp_path / "one.png")
    (axes,) = kept
    assert [line.get_marker() for line in axes.lines] == ["o", "o"] and axes.get_ylim()[0] < 2.973 < axes.get_ylim()[1]
    axes.figure.canvas.draw()
    assert axes.yaxis.get_major_formatter().get_offset() == ""
    kept.clear()
    rows = [{"step": "9", "train/bpd": "3.0"}, {"step": "19", "train/bpd": "2.5"}]
    assert curves.curves(rows, tmp_path / "short.png", {"val/bpd": 2.4, "val/bpd_se": 0.1})
    assert "reported: 2.4000" in [line.get_label() for line in kept[0].lines] and kept[0].get_ylim()[0] < 2.4


def watched(monkeypatch, module: str) -> list:
    """The panels that a module's figures will have had."""
    kept, real = [], import_module(f"laminar.pictures.{module}").figure

    @contextmanager
    def figure(*args, **kwargs):
        with real(*args, **kwargs) as panels:
            kept.extend(panels)
            yield panels

    monkeypatch.setattr(f"laminar.pictures.{module}.figure", figure)
    return kept


def test_smoothing_is_a_running_mean():
    assert curves.smooth(np.array([1.0, 3.0, 5.0, 7.0]), 2).tolist() == [1.0, 2.0, 4.0, 6.0]


def test_every_sheet_of_a_conditional_flow_is_drawn():
    flow = image_flow(event=(3, 4, 4), classes=3)
    x, context = stored(flow, 4), {"label": torch.tensor([0, 1, 2, 0])}
    for picture in (
        images.samples(flow, 5),
        images.temperatures(flow, n=3),
        images.by_class(flow, 3),
        images.by_level(flow, 3),
        latents.reconstructions(flow, x, context),
        latents.interpolations(flow, x[:2], x[2:], rows_of(context, slice(2))),
        masks.gallery(flow),
    ):
        assert picture.width > 60 and len(np.unique(np.asarray(picture))) > 3


def test_a_strip_follows_the_data_through_the_layers_of_a_plane():
    flow, x = flat_flow(), torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1)
        found, (first, second) = layers.stations(flow, x), flow.transform.parts[0].bodies[0].parts
        once = first(x)[0]
        assert [name for name, _ in found] == ["data", "step", "step"]
        for (_, points), expected in zip(found, (x, once, second(once)[0]), strict=True):
            torch.testing.assert_close(points, expected)
        torch.testing.assert_close(found[-1][1], flow.encode(x))


def test_pictures_of_a_plane_are_drawn(tmp_path):
    flow, x = flat_flow(), torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    layers.layers(flow, x, tmp_path / "layers.png")
    densities.densities(flow, x, tmp_path / "density.png", n=50)
    assert min((tmp_path / name).stat().st_size for name in ("layers.png", "density.png")) > 20_000


def test_samples_are_drawn_beside_the_data_of_plane_and_line(tmp_path, monkeypatch):
    flow, x = flat_flow(), torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    kept = watched(monkeypatch, "samples")
    samples(flow, x, tmp_path / "plane.png", n=30)
    assert [axes.get_title(loc="left") for axes in kept] == ["data: 30", "samples: 30"]
    np.testing.assert_allclose(kept[1].collections[0].get_offsets(), draw(flow, 30).double())
    samples(Flow(Space((1,)), partial(Chain, parts=[]), Gaussian), None, tmp_path / "line.png", n=30)
    assert (tmp_path / "line.png").stat().st_size > 5000


def test_a_picture_bears_what_it_is_about(tmp_path):
    blank, heights = [np.zeros((3, 4, 4, 3), np.uint8)], {}
    for told in ("", "glow on digits, test 2.3 bits/dim"):
        with about(told):
            heights[told] = sheet(blank, "Samples").height
    assert SUBJECT.get() == "" and len({*heights.values()}) == 2
    data = {"_target_": "laminar.data.digits.Digits"}
    assert subject({"choices": {"flow": "glow", "data": "digits"}, "data": data}) == "glow on digits"
    assert subject({"name": "mine", "choices": {"flow": "glow", "data": "digits"}, "data": data}) == "mine: glow on digits"
    told = {"flow": "nice", "data": "digits", "experiment": "nice_digits"}
    assert subject({"name": "nice_digits", "choices": told, "data": data}) == "nice on digits"
    assert subject({"name": "default", "data": data}) == "digits"


def test_marked_columns_are_framed():
    rows = [np.full((4, 8, 8, 3), 200, np.uint8)] * 2
    plain, framed = (np.asarray(sheet(rows, marked=marked)) for marked in (None, {0: "image", 3: "image"}))
    mark = (framed == np.array([217, 98, 43])).all(-1)
    assert not (plain == np.array([217, 98, 43])).all(-1).any()
    assert mark[:, :20].any() and mark[:, -20:].any() and not mark[-30:, 90:160].any()


def test_a_page_shows_every_picture_and_trusts_no_word(tmp_path):
    names = ["figures/curves.png", "samples/best.png", "samples/step-0000100.png", "samples/a b<i>&.png"]
    for name in names:
        save(Image.new("RGB", (40, 20)), tmp_path / name)
    path = tmp_path / "figures" / "index.html"
    page(
        tmp_path, path, "<script>alert(1)</script>", "laminar-train name='<b>'", [("test bits/dim", "2.1 ± 0.1", "<img src=x>")]
    )
    read = Page()
    read.feed(path.read_text())
    assert not {*read.tags} & {"script", "b", "i"} and read.tags.count("img") == 4
    assert [(path.parent / unquote(source)).resolve() for source in read.sources] == [tmp_path / name for name in names]
    text = "".join(read.text)
    assert "<script>alert(1)</script>" in text and "<img src=x>" in text and "a b<i>&" in text and "Step 100" in text
    assert "http" not in path.read_text()


class Page(HTMLParser):
    """What a browser sees of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.sources, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name == "src"]

    def handle_data(self, data):
        self.text.append(data)
