"""Dag: a graph in place of a line, so that a flow is the sampling process of a Bayes net (Wehenkel, Louppe 2021,
https://arxiv.org/abs/2006.02548)."""

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

import numpy as np

from laminar.flows.order.order import Order
from laminar.flows.space import Space
from laminar.refused import Refused

Parents = Sequence[Sequence[int]] | Mapping[str, Sequence[str]]


class Dag(Order):
    """Value i is computed from its parents alone. Ranks are a topological order: the lowest value that is ready comes next.

    Args:
        parents: for each value the numbers of those that it depends on; or for each column, in the data's order, its name and
            those of the columns that it depends on.
    """

    def __init__(self, space: Space, parents: Parents | None = None):
        self.parents, self.names = _numbered(parents)
        super().__init__(space)
        self._sees = np.zeros((space.size, space.size), dtype=bool)
        for child, seen in enumerate(self.parents):
            self._sees[self.rank[child], self.rank[seen]] = True
        outside = self._sees.astype(np.float32) @ ~self._sees.T  # how many of the one's parents are not among the other's
        self._within = outside == 0
        self.last = np.where(self._sees.any(1), space.size - 1 - self._sees[:, ::-1].argmax(1), -1)
        _, first = np.unique(self._sees, axis=0, return_index=True)
        self.kinds = np.array(sorted(first.tolist(), key=lambda rank: (self.last[rank], rank)))
        self.total = bool((self._sees.sum(1) == np.arange(space.size)).all())

    def ranks(self, space: Space) -> np.ndarray:
        if len(self.parents) != space.size:
            raise Refused(
                f"data.parents has {len(self.parents)} entries, and an event here has {space.size} values: order=dag needs one "
                "list of parents for each value, [] where there are none"
            )
        sorter = TopologicalSorter(dict(enumerate(self.parents)))
        try:
            sorter.prepare()
        except CycleError as error:
            circle = " -> ".join(str(self.names[place]) for place in error.args[1])
            raise Refused(f"data.parents goes in a circle, {circle}: take one of its arrows away") from None
        walk, ready = [], sorted(sorter.get_ready())
        while ready:
            walk.append(ready.pop(0))
            sorter.done(walk[-1])
            ready = sorted([*ready, *sorter.get_ready()])
        return np.argsort(walk)

    def sees(self, rank: np.ndarray, other: np.ndarray) -> np.ndarray:
        return self._sees[rank, other]

    def within(self, rank: np.ndarray, other: np.ndarray) -> np.ndarray:
        return self._within[rank, other]


def _numbered(parents: Parents | None) -> tuple[list[list[int]], list]:
    """Lists of numbers, whatever was given, and what each value is called."""
    if not parents:
        raise Refused("order=dag follows a graph: give each value's parents, data.parents=[[],[0],[0,1]]")
    names = list(parents) if isinstance(parents, Mapping) else list(range(len(parents)))
    rows = [parents[name] for name in names]
    places = {name: place for place, name in enumerate(names)}
    for name, row in zip(names, rows, strict=True):
        strange = [row] if isinstance(row, str) or not isinstance(row, Sequence) else [one for one in row if one not in places]
        if strange:
            known = ", ".join(map(str, names if len(names) < 9 else [*names[:8], "..."]))
            raise Refused(f"data.parents of {name} holds {strange[0]!r}, and a list of some of these is needed: {known}")
    return [sorted({places[one] for one in row}) for row in rows], names
