"""Scale law: NICE's diagonal scaling (Dinh et al. 2014, https://arxiv.org/abs/1410.8516, section 3.3)."""

from torch import Tensor

from laminar.coupling.law import Law


class Scale(Law):
    """y = x exp(s);  x = y exp(-s);  log-slope s."""

    arity = 1

    def __call__(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return x * params[:, 0].exp(), params[:, 0].expand_as(x)

    def inverse(self, y: Tensor, params: Tensor) -> Tensor:
        return y * params[:, 0].neg().exp()
