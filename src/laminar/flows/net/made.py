"""MADE: a fully connected net whose connections respect an order (Germain, Gregor, Murray, Larochelle 2015,
https://arxiv.org/abs/1502.03509); with residual blocks, the conditioner of autoregressive spline flows (Durkan et al. 2019)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from laminar.flows.net.causal import Causal, Solve, unthreaded
from laminar.flows.net.context import ContextReader
from laminar.flows.net.masked_linear import MaskedLinear
from laminar.flows.net.net import in_place, near_zero
from laminar.flows.net.step_by_step import step_by_step
from laminar.flows.net.weight_norm import MaskedWeightNorm
from laminar.flows.space import Context, Space
from laminar.refused import Refused


class MADE(Causal):
    """``depth`` hidden layers of ``width`` units, or as many residual blocks; a step is one value.

    Every hidden unit serves the values of some rank r on: it sees what the value of rank r sees, and the units that see no
    more than itself; and so do the value's parameters. In a line these are the values of rank up to r - 1, MADE's degree of a
    unit; in a graph (order=dag) the value's parents. Units stand sorted by the last value that they see, so that the way back
    computes each exactly once, when that value is known. Context joins the input of every unit; some see nothing else.

    Args:
        width: units of a hidden layer.
        depth: hidden layers; of residual blocks, two layers each, with one more before them.
        activation: of the hidden layers.
        residual: h + W_2 a(W_1 a(h)) in place of plain layers.
        dropout: between a residual block's layers, where all values are known at once; a way back has none.
        degrees: ``sequential`` goes round and round through all ranks; ``random`` draws each unit's, by ``seed``: MAF's way
            where there are more values than units.
        weight_norm: context scales and shifts every unit instead, see ``MaskedWeightNorm``: NAF's conditioner.
        planes: the last masked layer gives this number times width // D planes for each value, and one affine map that all
            values share turns them into the parameters; 0 leaves both out.
    """

    graphs = True

    def __init__(
        self,
        *task: Any,
        width: int = 512,
        depth: int = 2,
        activation: Callable[[], nn.Module] = nn.ReLU,
        residual: bool = False,
        dropout: float = 0.0,
        degrees: str = "sequential",
        seed: int = 0,
        weight_norm: bool = False,
        planes: int = 0,
        **order: Any,
    ):
        super().__init__(*task, **order)
        self.reader = ContextReader(self.seen.flattened())
        if degrees not in ("sequential", "random"):
            raise Refused(f"net.degrees is sequential or random, not {degrees!r}")
        values, rank, sees = self.seen.size, self.order.rank, self.order.sees
        self.joined = 0 if weight_norm else self.reader.channels
        kinds = self.order.kinds if self.joined else self.order.kinds[self.order.last[self.order.kinds] >= 0]
        different = max(len(kinds), 1)
        if degrees == "sequential" and width < different and depth:
            raise Refused(
                f"net=made with size.width={width} has fewer units than the {different} degrees that {values} values need, and "
                "the last of them would inform nothing: take more units, or net.degrees=random"
            )
        drawn = np.arange(width) if degrees == "sequential" else np.random.default_rng(seed).integers(different, size=width)
        drawn[:1] = 0  # some unit sees the context alone
        units = kinds[np.sort(drawn % different)] if len(kinds) else np.zeros(width, dtype=int)
        masked = partial(MaskedWeightNorm, context=self.reader.channels) if weight_norm else MaskedLinear

        def seen(ranks: np.ndarray) -> np.ndarray:
            """What is seen of the input: values, and behind them the context."""
            return np.hstack([sees(ranks[:, None], rank), np.ones((len(ranks), self.joined), dtype=bool)])

        layers = (1 + 2 * depth if residual else depth) if depth else 0
        if not 0 <= dropout < 1 or (dropout and not residual):
            raise Refused(f"net.dropout={dropout} is a share of a residual block's units: take net=made_residual, and below 1")
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.activation = activation() if residual else in_place(activation())
        self.residual, self.weight_norm = residual, weight_norm
        self.layers = nn.ModuleList()
        for number in range(layers):
            self.layers.append(masked(self.order.within(units, units[:, None]) if number else seen(units)))
        outputs = planes * max(width // values, 1) or self.arity
        ends = np.tile(self.order.within(units, rank[:, None]) if layers else seen(rank), (outputs, 1))
        last = masked(ends, norm=True) if weight_norm else masked(ends)
        self.spread = last if planes else None
        self.head = near_zero(nn.Conv1d(outputs, self.arity, 1) if planes else last)
        if weight_norm and not planes:
            nn.init.constant_(last.scale.bias, 0.01)
        last.clean()
        known = self.order.last[units]
        self.ends = np.searchsorted(known, np.arange(-1, values), side="right").tolist()  # units known at degree -1, 0, 1 ..

    def steps(self) -> Space:
        return self.seen

    def forward(self, x: Tensor, context: Context = None) -> Tensor:
        x, told = x.flatten(1), self._told(x.flatten(1), context)
        h, act = x if self.weight_norm else self.reader(x, context), self.activation
        if self.residual:
            h = self.layers[0](h, *told)
            for first, second in zip(self.layers[1::2], self.layers[2::2], strict=True):
                h = h + second(self.dropout(act(first(act(h), *told))), *told)
        else:
            for layer in self.layers:
                h = act(layer(h, *told))
        if self.spread is None:
            return self.head(h, *told).unflatten(1, (self.arity, *self.seen.event))
        planes = self.spread(h, *told).unflatten(1, (-1, self.seen.size))
        return self.head(planes).unflatten(2, self.seen.event)

    def _told(self, x: Tensor, context: Context) -> tuple[Tensor, ...]:
        """What every layer is told beside what it sees."""
        return (self.reader.read(x, context),) if self.weight_norm and self.reader.channels else ()

    def sequential(self, solve: Solve, z: Tensor, context: Context = None) -> Tensor:
        weights = sum(part.weight.numel() for part in self.modules() if isinstance(part, MaskedLinear))
        with unthreaded(z, len(z) * weights / (2 * self.seen.size)):
            return step_by_step(self, solve, z, context)
