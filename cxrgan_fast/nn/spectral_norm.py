"""Spectral normalisation of weights (Miyato et al. 2018), in float32 whatever the autocast.

``torch.nn.utils.parametrizations.spectral_norm`` computes its matrix-vector products in the
autocast dtype where autocast covers ``mv`` (CUDA), and copies a channels_last weight to flatten it.
It, and any way that goes layer by layer, also launches about fifteen small kernels a layer. Here
the layers of a network are normalised together: two matrix-vector products each, and everything
else over all of them at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
        (normalized,) = normalize([self], [weight], owners([self]), training=self.training)
        return normalized


def owners(norms: Sequence[SpectralNorm]) -> Tensor:
    """Tell to which weight each element of all v, and then of all u, belongs.

    Returns:
        int64 on the device of the norms: 0 for the elements of the first norm's vector, 1 for those
        of the second's, and so on, for the v and then again for the u.
    """
    return torch.cat(
        [
            torch.full_like(vector, number, dtype=torch.int64)
            for vectors in ([norm.v for norm in norms], [norm.u for norm in norms])
            for number, vector in enumerate(vectors)
        ]
    )


def normalize(
    norms: Sequence[SpectralNorm], weights: Sequence[Tensor], owners: Tensor, *, training: bool
) -> tuple[Tensor, ...]:
    """Divide weights by their largest singular values, all in one go.

    Args:
        norms: u and v of each weight; with ``training`` they take a step of the power iteration.
        weights: (out, in) or (out, in, h, w) each, float32.
        owners: what :func:`owners` says of ``norms``.
        training: whether u and v move.

    Returns:
        The weights with spectral norm 1 (as far as u and v have converged), in their layouts.
    """
    with torch.autocast(owners.device.type, enabled=False):
        with torch.no_grad():
            u, v, sigma, u_owners = _singular(norms, weights, owners, training)
        needs_gradient = torch.is_grad_enabled() and any(w.requires_grad for w in weights)
        if torch.compiler.is_compiling() and not needs_gradient:
            # Dynamo would call the function's forward with a context that it does not take.
            return tuple(torch._foreach_div(list(weights), sigma.unbind()))
        _, *normalized = _Divide.apply(u, v, sigma, u_owners, *weights)
    return tuple(normalized)


def _singular(
    norms: Sequence[SpectralNorm], weights: Sequence[Tensor], owners: Tensor, training: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All u behind one another and all v, which the next call leaves alone; the σ; u's owners."""
    matrices = [_as_matrix(weight) for weight in weights]
    us, vs = [norm.u for norm in norms], [norm.v for norm in norms]
    v_sizes, u_sizes = [len(v) for v in vs], [len(u) for u in us]
    v_owners, u_owners = owners.split([sum(v_sizes), sum(u_sizes)])
    if training:
        vs = [torch.mv(matrix.T, u) for matrix, u in zip(matrices, us, strict=True)]
        v = torch.cat(vs) / _lengths(vs).index_select(0, v_owners)
    else:
        v = torch.cat(vs)
    products = [torch.mv(matrix, v) for matrix, v in zip(matrices, v.split(v_sizes), strict=True)]
    product = torch.cat(products)
    if training:
        u = product / _lengths(products).index_select(0, u_owners)
        torch._foreach_copy_(
            [norm.v for norm in norms] + us, [*v.split(v_sizes), *u.split(u_sizes)]
        )
    else:
        u = torch.cat(us)
    # The sum of each layer's part of u * product = u * Wv.
    layers = torch.arange(len(norms), device=u.device).unsqueeze(1)
    sigma = (u * product).masked_fill(u_owners != layers, 0).sum(1)
    return u, v, sigma, u_owners


def _lengths(vectors: list[Tensor]) -> Tensor:
    # The least length is that of F.normalize.
    return torch.stack(torch._foreach_norm(vectors)).clamp_min(1e-12)


class _Divide(torch.autograd.Function):
    """W ↦ W / σ(W) for several W, with u and v constant.

    dW = (dY − ⟨dY, Y⟩·u vᵀ) / σ for Y = W / σ. The σ come out as well, in front: nobody uses them,
    but through them the second derivative sees that the σ of dW depends on W.
    """

    @staticmethod
    def forward(
        u: Tensor, v: Tensor, sigma: Tensor, u_owners: Tensor, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        return sigma.clone(), *torch._foreach_div(weights, sigma.unbind())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        u, v, _, u_owners, *_ = inputs
        ctx.save_for_backward(u, v, u_owners, *output)

    @staticmethod
    def backward(ctx: Any, d_sigma: Tensor, *d_outputs: Tensor) -> tuple[Tensor | None, ...]:
        u, v, u_owners, sigma, *outputs = ctx.saved_tensors
        # Plain ops rather than torch._foreach_ ones, which vmap does not know: the gradients of
        # single samples come through here.
        inner = [
            torch.dot(_as_vector(dy), _as_vector(y))
            for dy, y in zip(d_outputs, outputs, strict=True)
        ]
        along = torch.stack(inner) - d_sigma * sigma  # (L,): what is along u vᵀ
        us, vs = _parts(u * along.index_select(0, u_owners), v, outputs)
        d_weights = [
            torch.addcmul(dy, u, v, value=-1) / s
            for dy, u, v, s in zip(d_outputs, us, vs, sigma.unbind(), strict=True)
        ]
        return None, None, None, None, *d_weights

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        outputs = torch.vmap(_divide, in_dims)(*inputs)
        return outputs, (0,) * len(outputs)


def _divide(u: Tensor, v: Tensor, _: Tensor, __: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
    """What _Divide computes, in ops that vmap knows and autograd differentiates."""
    parts = zip(weights, *_parts(u, v, weights), strict=True)
    sigma = torch.stack([(weight * u * v).sum() for weight, u, v in parts])
    return sigma, *(weight / s for weight, s in zip(weights, sigma.unbind(), strict=True))


def _parts(u: Tensor, v: Tensor, weights: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Each weight's part of u and of v, in shapes in which u * v is as u vᵀ in the weight's."""
    us, vs = [], []
    u_parts = u.split([len(weight) for weight in weights])
    v_parts = v.split([weight.numel() // len(weight) for weight in weights])
    for weight, u_part, v_part in zip(weights, u_parts, v_parts, strict=True):
        if weight.dim() == 4:
            _, channels, height, width = weight.shape
            u_part = u_part.view(-1, 1, 1, 1)
            v_part = v_part.view(height, width, channels).permute(2, 0, 1)
        else:
            u_part = u_part.view(-1, 1)
        us.append(u_part)
        vs.append(v_part)
    return us, vs


def _as_matrix(weight: Tensor) -> Tensor:
    # (out, h, w, in) is how a channels_last weight lies in memory, so this copies nothing. Only
    # singular values matter: the order of the columns does not.
    return weight.permute(0, 2, 3, 1).flatten(1) if weight.dim() == 4 else weight


def _as_vector(weight: Tensor) -> Tensor:
    return (weight.permute(0, 2, 3, 1) if weight.dim() == 4 else weight).reshape(-1)
