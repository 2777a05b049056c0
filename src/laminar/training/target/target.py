"""Target: a density that is known up to its constant, for ``objective=reverse_kl``."""

from torch import Tensor


class Target:
    """log p(x) + constant, ``(B, *event) -> (B,)``, finite everywhere and differentiable."""

    def __call__(self, x: Tensor) -> Tensor:
        raise NotImplementedError
