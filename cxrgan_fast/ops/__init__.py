"""The public functional ops: each can be used alone in any PyTorch model."""

from cxrgan_fast.ops.adversarial_loss import discriminator_loss, generator_loss
from cxrgan_fast.ops.backend import (
    BackendStatus,
    available_backends,
    set_backend,
    use_backend,
)
from cxrgan_fast.ops.bias_leaky_relu import bias_leaky_relu
from cxrgan_fast.ops.conditional_batch_norm import conditional_batch_norm_act
from cxrgan_fast.ops.discriminator_input import discriminator_input
from cxrgan_fast.ops.resample_conv import conv2d_downsample, upsample_conv2d

__all__ = [
    "BackendStatus",
    "available_backends",
    "bias_leaky_relu",
    "conditional_batch_norm_act",
    "conv2d_downsample",
    "discriminator_input",
    "discriminator_loss",
    "generator_loss",
    "set_backend",
    "upsample_conv2d",
    "use_backend",
]
