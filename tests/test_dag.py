"""Orders that are graphs: a value sees its parents and nothing else, so a flow can be the sampling process of a Bayes net."""

from functools import partial

import pytest
import torch
from pages import PLANE, composed, flow
from parts import refuses
from recipes import affine, autoregressive, batch, context_of, disturb, made, recurrent
from torch.distributions import MultivariateNormal

from laminar.config.recipe import build
from laminar.flows.coupling.affine import Affine, Exp
from laminar.flows.net.made import MADE
from laminar.flows.order.dag import Dag
from laminar.flows.order.sequential import Sequential
from laminar.flows.space import Space

PARENTS = [[3], [0, 3], [], [2], [1, 2, 5], [], [4, 0]]
NETS = {
    "plain": partial(made, width=40),
    "linear": partial(made, depth=0),
    "residual": partial(made, width=40, residual=True),
    "random degrees": partial(made, width=300, degrees="random"),
    "planes of weight norm": partial(made, width=40, weight_norm=True, planes=2),
}


def adjacency(parents: list[list[int]]) -> torch.Tensor:
    seen = torch.zeros(len(parents), len(parents), dtype=torch.bool)
    for child, row in enumerate(parents):
        seen[child, row] = True
    return seen


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("context", [{}, {"label": (3,)}], ids=["alone", "conditional"])
def test_a_value_sees_exactly_its_parents(net, context):
    torch.manual_seed(0)
    space = Space((7,), context=context)
    layer = disturb(autoregressive(net=NETS[net], order=partial(Dag, parents=PARENTS))(space)).double()
    x, given = batch(space, 8), context_of(space, 8)
    jacobian = torch.autograd.functional.jacobian(lambda rows: layer.net(rows, given).sum(0), x)
    assert torch.equal(jacobian.abs().amax((0, 2)) > 0, adjacency(PARENTS))
    with torch.no_grad():
        torch.testing.assert_close(layer.inverse(layer(x, given)[0], given), x, rtol=1e-9, atol=1e-9)


def test_ranks_are_a_topological_order_and_a_full_graph_is_a_line():
    order = Dag(Space((7,)), PARENTS)
    assert all(order.rank[parent] < order.rank[child] for child, row in enumerate(PARENTS) for parent in row)
    assert not order.total and Dag(Space((4,)), [[1, 2, 3], [], [1], [1, 2]]).total
    line, full = (MADE(PLANE, PLANE, 2, width=8, order=order) for order in (Sequential, partial(Dag, parents=[[], [0]])))
    assert all(torch.equal(a.mask, b.mask) for a, b in zip([*line.layers, line.head], [*full.layers, full.head], strict=True))


def test_columns_may_have_names():
    order = Dag(Space((3,)), {"rain": [], "grass": ["rain", "sprinkler"], "sprinkler": ["rain"]})
    assert order.rank.tolist() == [0, 2, 1]


def test_the_sampling_process_of_a_bayes_net_is_a_flow():
    """x_i = sum of w_ij x_j over the parents + s_i e_i with normal e is a Gaussian: (1 - W) x = S e."""
    torch.manual_seed(0)
    space = Space((7,))
    net = partial(MADE, depth=0)
    layer = autoregressive(partial(Affine, Exp()), net, partial(Dag, parents=PARENTS))(space).double()
    weights, scales = torch.randn(7, 7, dtype=torch.float64) * adjacency(PARENTS), torch.rand(7, dtype=torch.float64) + 0.5
    with torch.no_grad():  # z = x / s - W x / s
        layer.net.head.weight.copy_(torch.cat([torch.zeros(7, 7), -weights / scales[:, None]]))
        layer.net.head.bias.copy_(torch.cat([-scales.log(), torch.zeros(7)]))
        e = torch.randn(50, 7, dtype=torch.float64)
        x = layer.inverse(e)
        log_prob = torch.distributions.Normal(0, 1).log_prob(layer(x)[0]).sum(1) + layer(x)[1]
    drawn = torch.zeros_like(e)
    for child in layer.net.order.rank.argsort():
        drawn[:, child] = drawn @ weights[child] + scales[child] * e[:, child]
    torch.testing.assert_close(x, drawn)
    factor = torch.linalg.solve(torch.eye(7, dtype=torch.float64) - weights, scales.diag())
    closed = MultivariateNormal(torch.zeros(7, dtype=torch.float64), factor @ factor.T)
    torch.testing.assert_close(log_prob, closed.log_prob(x))


def test_parents_are_an_option_of_the_data():
    words = ("flow=made", "order=dag", "data=moons", "data.parents=[[1],[]]", "size.width=4")
    assert flow(PLANE, *words).transform.parts[3].net.order.rank.tolist() == [1, 0]
    assert build(composed(*words).data, "data").parents == [[1], []]


FOUR = Space((4,))
WRONG = {
    "a circle": (lambda: Dag(FOUR, [[1], [2], [0], []]), "goes in a circle, 0 -> 2 -> 1 -> 0: take one of its arrows away"),
    "a circle of names": (lambda: Dag(PLANE, {"a": ["b"], "b": ["a"]}), "goes in a circle, a -> b -> a"),
    "its own parent": (lambda: Dag(PLANE, [[0], []]), "goes in a circle, 0 -> 0"),
    "too few": (lambda: Dag(FOUR, [[], [0]]), "data.parents has 2 entries, and an event here has 4 values"),
    "nobody": (lambda: Dag(PLANE, [[], [5]]), "data.parents of 1 holds 5, and a list of some of these is needed: 0, 1"),
    "no list": (lambda: Dag(PLANE, [[], 0]), "data.parents of 1 holds 0"),
    "nothing": (lambda: flow(PLANE, "flow=made", "order=dag", "data=moons"), "order=dag follows a graph"),
    "a net for lines": (
        lambda: autoregressive(affine, recurrent, partial(Dag, parents=PARENTS))(Space((7,))),
        "net=recurrent sees all that comes before a value, and order=dag only some of it: choose net=made",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_work_is_refused_with_a_sentence(case):
    refuses(*WRONG[case])
