"""Continuous: an event carried by a differential equation (neural ODEs, https://arxiv.org/abs/1806.07366; FFJORD,
https://arxiv.org/abs/1810.01367)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from math import sqrt

import torch
from torch import Tensor, nn

from laminar.flows import ledger
from laminar.flows.net.net import drops
from laminar.flows.net.velocity import Velocity
from laminar.flows.numerics import full_precision
from laminar.flows.solver.solver import Solver
from laminar.flows.space import Context, Space, cloned
from laminar.flows.trace.trace import Trace
from laminar.flows.transform import Transform
from laminar.refused import Refused

Energies = list[tuple[Tensor, Tensor]]  # of each solve: the integrals of |f|^2 and of |df/dx|^2, (B,)

_energies: ContextVar[Energies | None] = ContextVar("energies", default=None)


@contextmanager
def regularising() -> Iterator[Energies]:
    """Inside, continuous layers integrate what RNODE (Finlay et al. 2020, https://arxiv.org/abs/2002.02798) holds down: their
    kinetic energy and the squared norm of their Jacobian, differentiable, a pair for each forward solve."""
    energies: Energies = []
    token = _energies.set(energies)
    try:
        yield energies
    finally:
        _energies.reset(token)


class Continuous(Transform):
    """z = x(T) with x(0) = x and dx/dt = f(x, t);  log|det dz/dx| = the integral over [0, T] of tr(df/dx).

    The way back is the same equation from T to 0; it solves for x alone, unless asked for a log-det. Numbers are true to the
    solver's tolerance, and graded by the trace: an estimate draws once for a solve, by the example. How often the rate was
    asked is noted as ``nfe``, for each solve and row.

    Attributes:
        name: the layer's in its flow, for a solve that fails to tell.

    Args:
        net: recipe ``(space)`` of the velocity f.
        trace: recipe ``()``.
        solver: recipe ``()``.
        end: T.
        learn_end: learns the root of T, which begins at ``end``.
    """

    name = ""

    closed = False

    def __init__(
        self,
        space: Space,
        net: Callable[..., Velocity],
        trace: Callable[[], Trace],
        solver: Callable[[], Solver],
        end: float = 1.0,
        learn_end: bool = False,
    ):
        super().__init__(space, space.within(None))
        kind = getattr(net, "func", net)
        if isinstance(kind, type) and not issubclass(kind, Velocity):
            raise Refused(
                f"net={kind.__module__.rpartition('.')[2]} does not know the time, and a continuous layer needs a velocity: "
                f"choose {Velocity.vector_nets}"
            )
        if not end > 0:
            raise Refused(f"layer.end={end} is the time that a continuous layer runs, so it is above 0")
        self.trace, self.solver = trace(), solver()
        self.trace.check(space)
        self.net = net(space)
        root = torch.tensor(sqrt(end))
        if learn_end:
            self.root = nn.Parameter(root)
        else:
            self.register_buffer("root", root, persistent=False)
        self.drops = drops(self.net)

    @property
    def noisy(self) -> bool:
        return self.trace.noisy

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        energies = _energies.get()
        y, columns = self._solve(x, (0.0, 1.0), context, 1 if energies is None else 3)
        if energies is not None:
            energies.append((columns[1], columns[2]))
            ledger.note("kinetic", columns[1])
            ledger.note("jacobian", columns[2])
        return y, columns[0]

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        return self._solve(z, (1.0, 0.0), context, 0)[0]

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        x, columns = self._solve(z, (1.0, 0.0), context, 1)
        return x, columns[0]

    def velocity(self, x: Tensor, s: Tensor, context: Context = None) -> Tensor:
        """dx/ds at the share s = t / T of the way, ``(B,)``: T f(x, s T), of x's shape."""
        end = self.root.to(x.dtype).square()
        return end * self._asked(x, s * end, context)

    def walk(self, x: Tensor, shares: Sequence[float], context: Context = None) -> list[Tensor]:
        """Where x, at the first of some shares of the way, is at each of them; backwards where they fall."""
        places = [x]
        for span in pairwise(shares):
            places.append(self._solve(places[-1], span, context, 0)[0])
        return places

    def _asked(self, x: Tensor, t: Tensor, context: Context) -> Tensor:
        """f(x, t)."""
        f = self.net(x, t, context)
        if f.shape != x.shape:
            raise Refused(
                f"{type(self.net).__name__} gives {tuple(f.shape[1:])} for events of shape {tuple(x.shape[1:])}, and a "
                "velocity has the shape of its event: choose another net"
            )
        return f

    def _solve(self, x: Tensor, span: tuple[float, float], context: Context, extra: int) -> tuple[Tensor, Tensor]:
        """x at the end of a span of t / T, and the integrals of so many of trace, |f|^2 and |df/dx|^2: ``(extra, B)``."""
        event, size = self.domain.event, self.domain.size
        names = [name for name in self.domain.context if name in (context or {})]
        values = [context[name] for name in names]
        if torch.is_inference_mode_enabled() and extra:  # what it makes cannot be differentiated, not even for a trace
            with torch.inference_mode(False), torch.no_grad():
                return self._solve(x.clone(), span, cloned(context), extra)
        if self.drops and self.net.training:
            if torch.is_grad_enabled():
                raise Refused(
                    "net.dropout makes the velocity another one each time that a solver asks for it: take net.dropout=0, or "
                    "objective=flow_matching, which solves nothing while it trains"
                )
            self.net.eval()  # a look at the data before training
            try:
                return self._solve(x, span, context, extra)
            finally:
                self.net.train()
        probes = self.trace.draw(x.flatten(1)) if extra else None

        def rate(t: Tensor, state: Tensor, *given: Tensor) -> Tensor:
            time = self.root.to(state.dtype).square()
            t, rows = t * time, dict(zip(names, given, strict=False))

            def field(x: Tensor) -> Tensor:
                return self._asked(x.unflatten(1, event), t, rows).flatten(1)

            def carry(x: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor]:
                return self.net.carry(x, t, tangents, rows)

            with full_precision(state):
                x = state[:, :size]
                if not extra:
                    return time * field(x)
                drawn = given[-1] if probes is not None else None
                f, trace, *norm = self.trace(field, x, drawn, carry if self.net.carries else None, norm=extra > 1)
                columns = [trace, f.square().sum(1), *norm] if norm else [trace]
                return time * torch.cat([f, torch.stack(columns, 1)], 1)

        state = torch.cat([x.flatten(1), x.new_zeros(len(x), extra)], 1)
        given = values if probes is None else [*values, probes]
        state, evaluations = self.solver(rate, state, span, given, list(self.parameters()), self.name, self.training)
        ledger.note("nfe", evaluations.to(x.dtype))
        return state[:, :size].unflatten(1, event), state[:, size:].T
