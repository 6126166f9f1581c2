"""The public functional ops: each can be used alone in any PyTorch model."""

from cxrgan_fast.ops import conditional_batch_norm_steps
from cxrgan_fast.ops.adversarial_loss import discriminator_loss, generator_loss
from cxrgan_fast.ops.augmented_batch import augmented_batch
from cxrgan_fast.ops.backend import (
    BackendStatus,
    available_backends,
    set_backend,
    use_backend,
)
from cxrgan_fast.ops.bias_leaky_relu import bias_leaky_relu
from cxrgan_fast.ops.conditional_batch_norm import conditional_batch_norm_act
from cxrgan_fast.ops.resample_conv import conv2d_downsample, upsample_conv2d

discriminator_input = augmented_batch
"""The former name of :func:`augmented_batch`: the same function, for programs that have it."""

__all__ = [
    "BackendStatus",
    "augmented_batch",
    "available_backends",
    "bias_leaky_relu",
    "conditional_batch_norm_act",
    "conditional_batch_norm_steps",
    "conv2d_downsample",
    "discriminator_input",
    "discriminator_loss",
    "generator_loss",
    "set_backend",
    "upsample_conv2d",
    "use_backend",
]
