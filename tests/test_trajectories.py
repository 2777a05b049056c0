"""Trajectories: particles are where the flow takes them, and both pictures are drawn."""

import torch
from pages import PLANE, flow
from PIL import Image
from recipes import disturb

from laminar.flows import noise
from laminar.pictures.trajectories import moves, trajectories, ways


def test_particles_go_from_noise_to_samples_and_a_gif_shows_them(tmp_path):
    words = ("flow=ffjord", "data=moons", "size.steps=2", "size.width=8", "size.depth=1")
    model = disturb(flow(PLANE, *words), 1.0)
    places = ways(model, 40, moments=11)
    assert places.shape == (11, 40, 2)
    with noise.keyed(40), torch.no_grad():
        z = model.prior.sample(40)
        halfway = model.transform.parts[-1].parts[1].inverse(z)
    torch.testing.assert_close(places[0].float(), z)
    torch.testing.assert_close(places[5].float(), halfway, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(places[-1].float(), model.decode(z).detach(), rtol=1e-3, atol=1e-3)
    assert moves(model) and not moves(flow(PLANE, "flow=realnvp_flat", "data=moons"))
    trajectories(model, tmp_path / "trajectories.png", 40, moments=11)
    with Image.open(tmp_path / "trajectories.gif") as film:
        assert film.n_frames == 11 and film.size == (400, 430)
    with Image.open(tmp_path / "trajectories.png") as picture:
        assert picture.size[0] > 2000
