"""Squeeze: space to depth (RealNVP, https://arxiv.org/abs/1605.08803, section 3.6)."""

from torch import Tensor
from torch.nn import functional as F

from laminar.flows.space import Context, Space
from laminar.flows.transform import Transform
from laminar.refused import Refused

ORDERS = {"channels": None, "diagonal": (0, 3, 1, 2)}


class Squeeze(Transform):
    """``(C, H, W) -> (C f^2, H / f, W / f)``; log-det 0. With a large factor, an image cut into patches.

    Args:
        factor: f.
        order: ``channels`` keeps the f^2 values of a channel side by side; ``diagonal`` (f = 2) sorts by position, top-left
            and bottom-right before top-right and bottom-left, so that half of the channels is a checkerboard of the image:
            the order in which RealNVP lets channels go.
    """

    def __init__(self, space: Space, factor: int = 2, order: str = "channels"):
        if order not in ORDERS or (order == "diagonal" and factor != 2):
            raise Refused(f"squeeze's order is channels, or diagonal for factor 2, not {order!r} with factor {factor}")
        if not space.is_image:
            raise Refused(
                f"squeeze reshapes images, and the event here has shape {space.event}: "
                "choose a flow or a mask for vectors (flow=realnvp_flat, flow=nsf_coupling; mask=parity)"
            )
        c, h, w = space.event
        if h % factor or w % factor:
            raise Refused(
                f"squeeze by {factor} does not divide an event of shape {space.event}: "
                "use fewer size.levels, multiscale=flat, a size.patch that divides it, or pad the data"
            )
        super().__init__(space, space.reshaped(c * factor**2, h // factor, w // factor))
        self.factor, self.order = factor, ORDERS[order]

    def forward(self, x: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        log_det = x.new_zeros(len(x))
        x = F.pixel_unshuffle(x, self.factor)
        if self.order is not None:
            x = x.unflatten(1, (-1, 4)).transpose(1, 2)[:, self.order].flatten(1, 2)
        return x, log_det

    def inverse(self, z: Tensor, context: Context = None) -> Tensor:
        if self.order is not None:
            back = tuple(self.order.index(i) for i in range(4))
            z = z.unflatten(1, (4, -1))[:, back].transpose(1, 2).flatten(1, 2)
        return F.pixel_shuffle(z, self.factor)

    def inverse_with_log_det(self, z: Tensor, context: Context = None) -> tuple[Tensor, Tensor]:
        return self.inverse(z), z.new_zeros(len(z))
