"""The compiled core, csrc/bindings.cpp: tensors are addresses (``Tensor.data_ptr()``)."""

from typing import TypedDict

FLOAT32: int
BFLOAT16: int
FLOAT16: int
CONTIGUOUS: int
CHANNELS_LAST: int
LOSS_KINDS: dict[str, int]

class BuildInfo(TypedDict):
    compiler: str
    simd_levels: list[str]
    cuda_compiler: str  # "" where CUDA was not built
    cuda_architectures: str

class CudaDevice(TypedDict):
    name: str
    compute_capability: tuple[int, int]
    multiprocessors: int
    l2_bytes: int
    shared_bytes_per_block: int
    driver_version: int
    runtime_version: int
    runs_our_code: bool
    probe_error: str

def build_info() -> BuildInfo: ...
def simd_level() -> str: ...
def borrow_openmp_of(path: str, /) -> bool: ...
def openmp_runtime() -> str: ...
def cuda_devices() -> list[CudaDevice]:
    """Raises RuntimeError where there is no usable driver, or no CUDA in this build."""

class ConditionalBatchNorm:
    """Extents, parameters and threads of one call; csrc/include/cxrgan/conditional_batch_norm.h."""

    def __init__(
        self,
        dtype: int,
        layout: int,
        samples: int,
        channels: int,
        pixels: int,
        negative_slope: float,
        classes: int,
        labels: int,
        weight: int,
        bias: int,
        threads: int,
        /,
    ) -> None: ...
    def statistics(self, eps: float, x: int, mean: int, var: int, rstd: int, /) -> None: ...
    def apply(self, x: int, mean: int, rstd: int, y: int, /) -> None: ...
    def forward(self, eps: float, x: int, y: int, mean: int, var: int, rstd: int, /) -> None: ...
    def backward_reduce(
        self, dy: int, x: int, mean: int, rstd: int, dweight: int, dbias: int, /
    ) -> None: ...
    def backward_apply(
        self,
        dy: int,
        x: int,
        mean: int,
        rstd: int,
        dweight: int,
        dbias: int,
        count: int,
        dx: int,
        /,
    ) -> None: ...
    def backward(
        self,
        dy: int,
        x: int,
        mean: int,
        rstd: int,
        training: bool,
        dx: int,
        dweight: int,
        dbias: int,
        /,
    ) -> None: ...

def update_running_statistics(
    channels: int,
    count: int,
    momentum: float,
    statistics: int,
    running_mean: int,
    running_var: int,
    /,
) -> None: ...

# csrc/include/cxrgan/bias_leaky_relu.h; a bias of 0 is none.
def bias_leaky_relu(
    dtype: int,
    layout: int,
    samples: int,
    channels: int,
    pixels: int,
    negative_slope: float,
    x: int,
    bias: int,
    y: int,
    threads: int,
    /,
) -> None: ...
def bias_leaky_relu_gate(
    dtype: int,
    layout: int,
    samples: int,
    channels: int,
    pixels: int,
    negative_slope: float,
    g: int,
    bias: int,
    y: int,
    out: int,
    threads: int,
    /,
) -> None: ...
def bias_leaky_relu_backward(
    dtype: int,
    layout: int,
    samples: int,
    channels: int,
    pixels: int,
    negative_slope: float,
    dy: int,
    y: int,
    dx: int,
    dbias: int,
    threads: int,
    /,
) -> None: ...

# csrc/include/cxrgan/adversarial_loss.h; kinds are numbered by LOSS_KINDS, gradients and the loss
# are float32.
def discriminator_loss(
    kind: int,
    label_smoothing: float,
    real_dtype: int,
    real_count: int,
    real: int,
    real_gradient: int,
    fake_dtype: int,
    fake_count: int,
    fake: int,
    fake_gradient: int,
    loss: int,
    threads: int,
    /,
) -> None: ...
def generator_loss(
    kind: int, dtype: int, count: int, fake: int, gradient: int, loss: int, threads: int, /
) -> None: ...
