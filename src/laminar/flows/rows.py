"""Rows: what somebody hands to a flow, checked, a batch at a time, and given back as it came."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import wraps
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from laminar.flows import noise
from laminar.flows.numerics import score
from laminar.flows.space import Context, rows_of
from laminar.refused import Refused, shown

VALUES = 2**20


class Score(NamedTuple):
    """A mean over rows, its standard error, and what it is to the likelihood: see ``Flow.grade``."""

    value: float
    standard_error: float
    grade: str


def at_once(flow: nn.Module) -> int:
    """Events that pass a flow together: about a million values, what a training batch of any model has."""
    return max(1, VALUES // flow.space.size)


def by_rows(check: Callable[[nn.Module, Any], Tensor]) -> Callable:
    """A method of a flow ``(rows, context, ...) -> a number or event for each row``, for rows as people hold them.

    Rows are arrays, lists or tensors. They are checked by ``check``; in evaluation mode they pass the flow ``at_once``, so that
    there may be any number of them. Tensors give tensors where they lie, with gradients; all else gives arrays, without.

    Inside a noise source each row has its own key, as the rows of a data set have that were checked when they were read: they
    go straight through.
    """

    def decorate(method: Callable[..., Tensor]) -> Callable[..., Any]:
        @wraps(method)
        def handed(flow: nn.Module, rows: Any, context: Any = None, *args: Any, **words: Any) -> Any:
            if noise.keys_are_given():
                return method(flow, rows, context, *args, **words)
            plain = not isinstance(rows, Tensor)
            x = check(flow, rows)
            seen = context_of(flow, context, len(x))
            size = len(x) if flow.training else at_once(flow)
            with torch.no_grad() if plain else nullcontext():
                parts = [
                    method(flow, x[part].to(flow.device), rows_of(seen, part, flow.device), *args, **words)
                    for part in (slice(first, first + size) for first in range(0, len(x), size))
                ]
            result = parts[0] if len(parts) == 1 else torch.cat(parts)
            return result.cpu().numpy() if plain else result.to(x.device)

        return handed

    return decorate


def mean_score(flow: nn.Module, x: Any, context: Any, unit: str, num_samples: int, seed: int) -> Score:
    """The mean of a unit over rows; row i draws by (seed, i), whatever the batch."""
    x = data_of(flow, x)
    context = context_of(flow, context, len(x))
    scores = []
    for first in range(0, len(x), at_once(flow)):
        rows = slice(first, min(first + at_once(flow), len(x)))
        with noise.keyed(rows.stop - first, seed, first):
            here = x[rows].to(flow.device), rows_of(context, rows, flow.device)
            log_prob = flow.log_prob(*here, num_samples, chunk=rows.stop - first)
        scores.append(score(log_prob.double(), unit, flow.space.size).cpu())
    scores = torch.cat(scores)
    return Score(scores.mean().item(), (scores.std() / len(scores) ** 0.5).item(), flow.grade)


def data_of(flow: nn.Module, x: Any) -> Tensor:
    """Rows of data, ``(B, *event)``: integers within the levels, or finite real numbers, in the flow's precision.

    Raises:
        Refused: where they are something else, scaled pixels for one: they would get a number that means nothing.
    """
    x, space = tensor_of("x", x), flow.space
    if x.shape[1:] != space.event or len(x) == 0:
        raise Refused(f"x has the shape {tuple(x.shape)}, and this flow takes n > 0 rows of shape {space.event}: (n, *event)")
    x = x if space.discrete else x.to(flow.prior.anchor.dtype)
    if flow.training:
        return x  # a look at the values would wait for the device in each step
    if not space.discrete and not x.isfinite().all():
        raise Refused("x holds values that are not finite: leave those rows out")
    if set(space.entries("levels")) == {None}:
        return x
    levels = space.per_element("levels", float("inf")).to(x.device)
    if x.is_floating_point() and (space.per_element("levels", 0).to(x.device) * (x - x.floor())).any():
        raise Refused(f"x holds numbers between the integers that this flow scores{_range(levels)}: hand it the stored ones")
    if ((x < 0) & (levels < float("inf"))).any() or (x >= levels).any():
        low, high = x.amin().item(), x.amax().item()
        raise Refused(f"x holds values from {low:g} to {high:g}, and this flow knows the integers{_range(levels)}")
    return x


def noise_of(flow: nn.Module, z: Any) -> Tensor:
    """Rows of noise, ``(B, D)``."""
    z, event = tensor_of("z", z), flow.transform.codomain.event
    if z.shape[1:] != event or not z.is_floating_point():
        raise Refused(f"z has the shape {tuple(z.shape)} and holds {z.dtype}: rows of noise are real numbers of shape {event}")
    return z.to(flow.prior.anchor.dtype)


def context_of(flow: nn.Module, context: Mapping[str, Any] | None, rows: int) -> Context:
    """A context as tensors, a value for each row; one value stands for all. Names are the context encoder's to check."""
    if context is None:
        return None
    tensors = {}
    for name, value in context.items():
        value = tensor_of(f"context[{name!r}]", value)
        shape = flow.space.context.get(name, ()) if name != "label" else ()
        if value.shape == shape:
            value = value.expand(rows, *shape)
        if name in flow.space.context and value.shape != (rows, *shape):
            raise Refused(
                f"context[{name!r}] has the shape {tuple(value.shape)}, and {rows} rows of data need {(rows, *shape)}"
            )
        if name == "label" and name in flow.space.context and not flow.training:
            (classes,) = flow.space.context["label"]
            if value.is_floating_point() or value.amin() < 0 or value.amax() >= classes:
                raise Refused(f"context['label'] holds numbers of classes, 0 to {classes - 1}, and something else was given")
            value = value.long()
        tensors[name] = value
    return tensors


def tensor_of(name: str, values: Any) -> Tensor:
    """Numbers as a tensor."""
    if isinstance(values, Tensor):
        return values
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise Refused(f"{name} is no array of numbers: {error}") from None
    if array.dtype.kind not in "biuf":
        raise Refused(f"{name} holds {shown(str(array.dtype))}, and numbers are needed")
    small = array.dtype.kind != "u" or array.dtype.itemsize == 1
    return torch.from_numpy(np.asarray(array if small else array.astype(np.int64), order="C"))


def _range(levels: Tensor) -> str:
    tops = {int(top) - 1 for top in levels.unique().tolist() if top < float("inf")}
    return f" 0 to {tops.pop()}" if len(tops) == 1 else " of each column's levels"
