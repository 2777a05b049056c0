"""Channel: the first and the second half of the channels (RealNVP, https://arxiv.org/abs/1605.08803; Glow)."""

from laminar.flows.mask.blocks import Blocks
from laminar.flows.mask.partition import images_only
from laminar.flows.space import Space
from laminar.refused import Refused


class Channel(Blocks):
    """given = x[:C//2], moved = x[C//2:] of an image ``(C, H, W)``; flipped, the other way round."""

    def __init__(self, space: Space, flip: bool = False):
        images_only("channel", space)
        if space.event[0] < 2:
            raise Refused(
                f"mask=channel would move nothing, because the event {space.event} has a single channel: squeeze before "
                "it, or choose mask=checkerboard with multiscale=flat"
            )
        super().__init__(space, flip, dim=0)
