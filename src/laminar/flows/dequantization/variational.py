"""Variational dequantization (Flow++, Ho et al. 2019, https://arxiv.org/abs/1902.00275, section 3.1)."""

from collections.abc import Callable

from torch import Tensor, nn

from laminar.flows.dequantization.cube import Cube
from laminar.flows.space import Context, Space
from laminar.refused import Refused


class Variational(Cube):
    """u ~ q(u | x), a conditional flow on (0, 1)^D that sees x.

    Args:
        flow: recipe ``(space)`` of q. Its Space has the data's shape and context, and ``image`` beside it; it is used in its
            sampling direction only, so its transform is an ``Inverse``.
        encoder: recipe ``(event) -> net`` of the features of x that q sees as ``image``; the net names its output shape
            ``event``. None shows x itself, scaled to [-1/2, 1/2).
    """

    def __init__(
        self,
        space: Space,
        flow: Callable[[Space], nn.Module],
        encoder: Callable[[tuple[int, ...]], nn.Module] | None = None,
    ):
        super().__init__(space, "variational")
        if self.mixed:
            raise Refused(
                "dequantization=variational takes integers of one number of levels, and these columns are others (levels "
                f"{space.levels}, rounded to {space.rounded}): choose dequantization=uniform"
            )
        self.encoder = None if encoder is None else encoder(space.event)
        image = space.event if self.encoder is None else self.encoder.event
        self.flow = flow(space.reals(upper=1.0).seeing(image=image))

    def draw(self, x: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        image = x / self.domain.levels - 0.5
        if self.encoder is not None:
            image = self.encoder(image)
        u, log_q = self.flow.sample_with_log_prob(len(x), {**(context or {}), "image": image})
        return u, -log_q
