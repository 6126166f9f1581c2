"""Spectral normalisation of a weight (Miyato et al. 2018), in float32 whatever the autocast.

``torch.nn.utils.parametrizations.spectral_norm`` computes its matrix-vector products in the
autocast dtype where autocast covers ``mv`` (CUDA), and copies a channels_last weight to flatten it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_INITIAL_ITERATIONS = 15


class SpectralNorm(nn.Module):
    """W ↦ W / σ, with σ the largest singular value of W as a matrix (out, everything else).

    σ = uᵀWv for the singular vectors u and v, which are buffers. In training each call brings them
    closer by one step of the power iteration; in evaluation they stay. Gradients flow through W
    and σ, not through u and v, as in the paper.

    Args:
        weight: the initialised weight, (out, in) or (out, in, h, w); it is not kept.
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        with torch.no_grad():
            matrix = _as_matrix(weight)
            u = F.normalize(torch.randn_like(matrix[:, 0]), dim=0)
            for _ in range(_INITIAL_ITERATIONS):
                v = F.normalize(torch.mv(matrix.T, u), dim=0)
                u = F.normalize(torch.mv(matrix, v), dim=0)
        self.register_buffer("u", u)
        self.register_buffer("v", v)

    def forward(self, weight: Tensor) -> Tensor:
        """Divide ``weight`` by its largest singular value.

        Args:
            weight: (out, in) or (out, in, h, w), float32.

        Returns:
            The weight with spectral norm 1 (as far as u and v have converged), in its layout.
        """
        with torch.autocast(weight.device.type, enabled=False):
            matrix = _as_matrix(weight)
            if self.training:
                with torch.no_grad():
                    self.v.copy_(F.normalize(torch.mv(matrix.T, self.u), dim=0))
            # Clones: the backward pass of one call must survive the next call's update in place.
            v = self.v.clone()
            image = torch.mv(matrix, v)
            if self.training:
                with torch.no_grad():
                    self.u.copy_(F.normalize(image, dim=0))
            return weight / torch.dot(self.u.clone(), image)


def _as_matrix(weight: Tensor) -> Tensor:
    # (out, h, w, in) is how a channels_last weight lies in memory, so this copies nothing. Only
    # singular values matter: the order of the columns does not.
    if weight.dim() == 4:
        weight = weight.permute(0, 2, 3, 1)
    return weight.flatten(1)
