"""Step: a partition, a coupling across it, and what stirs or scales before and after."""

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor, nn

from laminar.flows.compose.chain import Chain
from laminar.flows.mask.partition import Partition
from laminar.flows.space import Context, Space
from laminar.flows.transform import Recipe, Transform
from laminar.refused import Refused

PLACES = {"whole": ["whole"], "halves": ["given", "moved"], "given": ["given"], "moved": ["moved"]}


class Step(Transform):
    """before -> coupling -> after.

    Args:
        mask: recipe ``(space)`` of the partition.
        layer: recipe ``(partition)`` of the coupling.
        before, after: recipes ``(space)`` of norms and mixes.
        where: what these act on: the ``whole`` tensor (Glow), each of the two ``halves`` (Flow++), the ``moved`` half alone
            (RealNVP's batch norm) or the ``given`` one; or a word for before and one for after (spline flows:
            ``[whole, given]``).
    """

    def __init__(
        self,
        space: Space,
        mask: Callable[[Space], Partition],
        layer: Callable[[Partition], nn.Module],
        before: Sequence[Recipe] = (),
        after: Sequence[Recipe] = (),
        where: str | Sequence[str] = "whole",
    ):
        super().__init__(space)
        pair = [where, where] if isinstance(where, str) else list(where)
        if len(pair) != 2 or not set(pair) <= PLACES.keys():
            raise Refused(f"step.where is one of {', '.join(PLACES)}, or one for before and one for after, not {where!r}")

        def chains(partition: Partition, recipes: Sequence[Recipe], place: str) -> nn.ModuleDict:
            spaces = {"whole": partition.space, "given": partition.given, "moved": partition.moved}
            return nn.ModuleDict({name: Chain(spaces[name], recipes) for name in PLACES[place] if recipes})

        def behind(parts: Iterable[nn.Module], partition: Partition) -> Partition:
            """What the parts leave: still within the same range, if each of them keeps to it."""
            kept = all(part.codomain.upper == partition.space.upper for part in parts)
            return partition if kept else partition.within(None)

        partition = mask(space)
        self.before = chains(partition, before, pair[0])
        self.partition = behind(self.before.values(), partition)
        self.coupling = layer(self.partition)
        outside = behind([self.coupling], self.partition)
        self.after = chains(outside, after, pair[1])
        self.codomain = behind(self.after.values(), outside).space

    @property
    def closed(self) -> bool:
        return super().closed and self.coupling.law.closed

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        log_dets = []

        def through(chains: nn.ModuleDict, name: str, value: Tensor) -> Tensor:
            if name not in chains:
                return value
            value, log_det = chains[name](value, context)
            log_dets.append(log_det)
            return value

        given, moved = self.partition.split(through(self.before, "whole", x))
        given, moved = through(self.before, "given", given), through(self.before, "moved", moved)
        moved, total = self.coupling(given, moved, context)
        given, moved = through(self.after, "given", given), through(self.after, "moved", moved)
        x = through(self.after, "whole", self.partition.merge(given, moved))
        return x, sum(log_dets, total)

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        return self._back(z, context, with_log_det=False)[0]

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        z, log_dets = self._back(z, context, with_log_det=True)
        return z, sum(log_dets)

    def _back(self, z: Tensor, context: Context, with_log_det: bool) -> tuple[Tensor, list[Tensor]]:
        log_dets = []

        def undo(part: nn.Module, *values: Tensor) -> Tensor:
            if not with_log_det:
                return part.inverse(*values, context)
            value, log_det = part.inverse_with_log_det(*values, context)
            log_dets.append(log_det)
            return value

        def through(chains: nn.ModuleDict, name: str, value: Tensor) -> Tensor:
            return undo(chains[name], value) if name in chains else value

        given, moved = self.partition.split(through(self.after, "whole", z))
        given, moved = through(self.after, "given", given), through(self.after, "moved", moved)
        moved = undo(self.coupling, given, moved)
        given, moved = through(self.before, "given", given), through(self.before, "moved", moved)
        return through(self.before, "whole", self.partition.merge(given, moved)), log_dets
