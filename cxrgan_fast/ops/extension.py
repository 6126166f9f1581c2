"""The compiled extension as a value, for mypy: ``import cxrgan_fast._C`` may fail at run time.

Python has no type for the module that a stub describes: a function that returns one can only return
``ModuleType``, on which mypy allows every call. This class takes its members from ``_C.pyi`` by
reference, so that signatures are written once, there. ``tests/ops/test_extension.py`` compares the
class, the stub and the compiled module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cxrgan_fast import _C

    class Extension:
        """What ``native()`` returns; only mypy ever sees this class."""

        FLOAT32 = _C.FLOAT32
        BFLOAT16 = _C.BFLOAT16
        FLOAT16 = _C.FLOAT16
        CONTIGUOUS = _C.CONTIGUOUS
        CHANNELS_LAST = _C.CHANNELS_LAST
        CPU = _C.CPU
        LOSS_KINDS = _C.LOSS_KINDS
        NORM_PATHS = _C.NORM_PATHS

        ConditionalBatchNorm = _C.ConditionalBatchNorm
        AugmentedBatch = _C.AugmentedBatch

        build_info = staticmethod(_C.build_info)
        simd_level = staticmethod(_C.simd_level)
        borrow_openmp_of = staticmethod(_C.borrow_openmp_of)
        openmp_runtime = staticmethod(_C.openmp_runtime)
        cuda_devices = staticmethod(_C.cuda_devices)
        cuda_probe_error = staticmethod(_C.cuda_probe_error)
        given_statistics = staticmethod(_C.given_statistics)
        update_running_statistics = staticmethod(_C.update_running_statistics)
        bias_leaky_relu_workspace = staticmethod(_C.bias_leaky_relu_workspace)
        bias_leaky_relu = staticmethod(_C.bias_leaky_relu)
        bias_leaky_relu_gate = staticmethod(_C.bias_leaky_relu_gate)
        bias_leaky_relu_backward = staticmethod(_C.bias_leaky_relu_backward)
        adversarial_loss_workspace = staticmethod(_C.adversarial_loss_workspace)
        discriminator_loss = staticmethod(_C.discriminator_loss)
        generator_loss = staticmethod(_C.generator_loss)
