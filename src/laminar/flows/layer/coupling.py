"""Coupling: a law whose parameters are read from the other part (NICE, https://arxiv.org/abs/1410.8516, section 3.2)."""

from collections.abc import Callable

from torch import Tensor, nn

from laminar.flows.coupling.law import Law
from laminar.flows.guidance import steered
from laminar.flows.layer.parameters import begin, spread
from laminar.flows.mask.partition import Partition
from laminar.flows.net.net import Net
from laminar.flows.numerics import sum_event
from laminar.flows.space import Context
from laminar.refused import Refused


class Coupling(nn.Module):
    """moved' = law(moved; net(given)), while given stays. Works on the two parts of a partition, which its owner splits.

    ``forward(given, moved)``, ``inverse_with_log_det(given, moved')`` give the other and a log-det ``(B,)``;
    ``inverse(given, moved')`` gives moved alone. The net may run in bfloat16: the law runs in the data's precision.

    Attributes:
        codomain: the Space of moved'.
    """

    def __init__(self, partition: Partition, law: Callable[[], Law], net: Callable[..., Net]):
        if not isinstance(partition, Partition):
            raise Refused(
                "layer=coupling moves one part of an event by the other, and nothing splits the event here: put it into a step "
                "with a mask (flow=realnvp_flat), or choose layer=elementwise"
            )
        super().__init__()
        self.partition = partition
        self.law = law()
        self.codomain = self.law.onto(partition.moved)
        self.net = net(partition.seen, partition.asked, self.law.arity)
        self.shared = begin(self.law, self.net)

    def params(self, given: Tensor, context: Context) -> tuple[Tensor, ...]:
        """The law's: ``(B, arity, *moved.event)`` of the net, and the shared ones if there are any."""
        params = steered(self.net(self.partition.show(given), context).to(given.dtype))
        return self.partition.pick(params), *spread(self.shared, given)

    def forward(self, given: Tensor, moved: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        moved, log_slope = self.law(moved, *self.params(given, context))
        return moved, sum_event(log_slope)

    def inverse(self, given: Tensor, moved: Tensor, context: Context = None) -> Tensor:
        return self.law.inverse(moved, *self.params(given, context))

    def inverse_with_log_det(self, given: Tensor, moved: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        params = self.params(given, context)
        moved = self.law.inverse(moved, *params)
        return moved, -sum_event(self.law(moved, *params)[1])
