"""Householder's accumulated matrix is the product of its reflections."""

import torch

from laminar.flows.mix.householder import Householder
from laminar.flows.space import Space


def test_the_accumulated_matrix_is_the_product_of_the_reflections():
    torch.manual_seed(0)
    mix = Householder(Space((5, 2, 3)), reflections=3).double()
    product = torch.eye(5, dtype=torch.float64)
    for v in mix.vectors.detach():
        product = product @ (torch.eye(5) - 2 * torch.outer(v, v) / v.dot(v))
    torch.testing.assert_close(mix.weight(), product)
    x = torch.randn(4, 5, 2, 3, dtype=torch.float64)
    z, contribution = mix(x)
    torch.testing.assert_close(z, torch.einsum("ij,bjhw->bihw", product, x))
    assert contribution.tolist() == [0.0] * 4
    torch.testing.assert_close(mix.inverse(z), x)
