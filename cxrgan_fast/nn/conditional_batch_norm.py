"""The module on top of ``ops.conditional_batch_norm_act``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cxrgan_fast.nn.labels import class_rows
from cxrgan_fast.ops import conditional_batch_norm_act


class ConditionalBatchNorm2d(nn.Module):
    """Batch normalisation with γ and β of each class, and LeakyReLU after it.

    de Vries et al. 2017, "Modulating early visual processing by language". Parameters and running
    statistics stay float32 under autocast.

    Args:
        num_features: C, channels of the input.
        num_classes: K.
        eps: added to the variance.
        momentum: weight of a batch in the running statistics; None for the mean over all batches,
            as in ``nn.BatchNorm2d``, which counts them in the buffer ``num_batches_tracked``.
        negative_slope: slope of the activation below 0; 1, the default, is no activation.

    Attributes:
        latent_rows: how many of the last rows of γ and β are no class's, but numbers of the latent.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        negative_slope: float = 1.0,
    ) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.negative_slope = negative_slope
        self.latent_rows = 0
        self.weight = nn.Parameter(torch.ones(num_classes, num_features))
        self.bias = nn.Parameter(torch.zeros(num_classes, num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        # Only where it is used: generators that were saved have none.
        tracked = torch.tensor(0) if momentum is None else None
        self.register_buffer("num_batches_tracked", tracked)

    def forward(self, input: Tensor, labels: Tensor) -> Tensor:
        """Normalize, modulate by class, activate.

        Args:
            input: (N, C, H, W), float32, bfloat16 or float16.
            labels: (N,) int64 in [0, K), or class weights (N, K), floating, rows summing to 1,
                which mix the classes' γ and β.

        Returns:
            (N, C, H, W) in the dtype and layout of ``input``.

        Raises:
            ValueError, TypeError, IndexError: as the op.
        """
        weight: Tensor = self.weight
        bias: Tensor = self.bias
        if labels.is_floating_point():  # every sample has a γ and β of its own
            weight, bias = class_rows(weight, labels), class_rows(bias, labels)
            labels = torch.arange(labels.shape[0], device=labels.device)
        running, momentum = (self.running_mean, self.running_var), self.momentum
        averages = momentum is None and self.training
        if averages:  # what the batch alone has, in tensors of its own
            running = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
            momentum = 1.0
        output = conditional_batch_norm_act(
            input,
            labels,
            weight,
            bias,
            *running,
            training=self.training,
            momentum=0.0 if momentum is None else momentum,
            eps=self.eps,
            negative_slope=self.negative_slope,
        )
        if averages and input.numel() > 0:
            self._average(*running)
        return output

    @torch.no_grad()
    def _average(self, mean: Tensor, var: Tensor) -> None:
        """Take a batch's statistics into the mean over all batches; no device is waited for."""
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / self.num_batches_tracked.to(mean.dtype)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(var, share)

    def extra_repr(self) -> str:
        """Return the sizes, as ``print(module)`` shows them."""
        classes, features = self.weight.shape
        return f"{features}, {classes} classes, negative_slope={self.negative_slope}"
