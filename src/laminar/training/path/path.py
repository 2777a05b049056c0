"""Path: how flow matching leads from data x to noise z."""

from torch import Tensor


class Path:
    """x_t = a(t) x + b(t) z for t from 0, where it is x, to 1, where it is z (or nearly so).

    Attributes:
        noisy: whether it begins beside the data, at x + ``start`` z: what is scored there is another variable than x.
        start: how much noise that is, in units of what the continuous part reads; told by the flow's dequantizer.
    """

    noisy = False
    start = 0.0

    def __call__(self, x: Tensor, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """x_t and dx_t / dt, for t of a shape that broadcasts to theirs."""
        raise NotImplementedError
