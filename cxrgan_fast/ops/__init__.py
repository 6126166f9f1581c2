"""The public functional ops: each can be used alone in any PyTorch model."""

from cxrgan_fast.ops.backend import (
    BackendStatus,
    available_backends,
    set_backend,
    use_backend,
)
from cxrgan_fast.ops.conditional_batch_norm import conditional_batch_norm_act

__all__ = [
    "BackendStatus",
    "available_backends",
    "conditional_batch_norm_act",
    "set_backend",
    "use_backend",
]
