"""The fused ops in Triton: for NVIDIA GPUs without nvcc, and for ROCm.

Plain functions on tensors, one module an op. They only allocate and launch, so that
``torch.library.triton_op`` can trace them; arguments are checked, and the ops are registered and
made differentiable, in :mod:`cxrgan_fast.ops`. Images are dense, (N, C, H, W), contiguous or
channels_last, float32, bfloat16 or float16; parameters, statistics and sums are float32.

Results are the same bits on every run and in every process: there are no atomics, and what the
autotuner chooses changes no sum. With ``TRITON_INTERPRET=1`` set before the first import, the
kernels run on CPU tensors in Triton's interpreter.
"""

from . import adversarial_loss, augmented_batch, bias_leaky_relu, conditional_batch_norm

__all__ = ["adversarial_loss", "augmented_batch", "bias_leaky_relu", "conditional_batch_norm"]
