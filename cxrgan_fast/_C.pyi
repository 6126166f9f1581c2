"""The compiled core, csrc/bindings.cpp: tensors are addresses (``Tensor.data_ptr()``)."""

from typing import TypedDict

FLOAT32: int
BFLOAT16: int
FLOAT16: int
CONTIGUOUS: int
CHANNELS_LAST: int
CPU: int  # as a device
LOSS_KINDS: dict[str, int]
NORM_PATHS: dict[str, int]

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

def cuda_probe_error(device: int, /) -> str:
    """Why what was built cannot run on that GPU; "" if it can."""

# A place is a device and a number: CPU and how many threads, or a CUDA ordinal and the stream.
# A workspace is an address and a size, what the function of that name asks for; 0 on the CPU.
Workspace = tuple[int, int]

class ConditionalBatchNorm:
    """Extents, parameters and place of one call; csrc/include/cxrgan/conditional_batch_norm.h."""

    def __init__(
        self,
        dtype: int,
        layout: int,
        samples: int,
        channels: int,
        pixels: int,
        eps: float,
        negative_slope: float,
        classes: int,
        labels: int,
        weight: int,
        bias: int,
        device: int,
        number: int,
        path: int,
        /,
    ) -> None: ...
    def forward_workspace(self, x: int, /) -> int: ...
    def backward_workspace(self, dy: int, x: int, /) -> int: ...
    def paths(self, image: int, /) -> tuple[str, str]:
        """The paths that forward and backward take on a GPU, by an image's address."""

    def statistics(
        self, x: int, mean: int, var: int, rstd: int, workspace: Workspace, /
    ) -> None: ...
    def apply(self, x: int, mean: int, rstd: int, y: int, /) -> None: ...
    def forward(
        self,
        x: int,
        y: int,
        mean: int,
        var: int,
        rstd: int,
        running_mean: int,
        running_var: int,
        momentum: float,
        workspace: Workspace,
        /,
    ) -> None: ...
    def backward_reduce(
        self,
        dy: int,
        x: int,
        mean: int,
        rstd: int,
        dweight: int,
        dbias: int,
        workspace: Workspace,
        /,
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
        workspace: Workspace,
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
        workspace: Workspace,
        /,
    ) -> None: ...

def given_statistics(
    channels: int,
    eps: float,
    given_mean: int,
    given_var: int,
    statistics: int,
    device: int,
    number: int,
    /,
) -> None: ...
def update_running_statistics(
    channels: int,
    count: int,
    momentum: float,
    statistics: int,
    running_mean: int,
    running_var: int,
    device: int,
    number: int,
    /,
) -> None: ...

# csrc/include/cxrgan/bias_leaky_relu.h; a bias of 0 is none.
def bias_leaky_relu_workspace(
    dtype: int, layout: int, samples: int, channels: int, pixels: int, device: int, /
) -> int: ...
def bias_leaky_relu(
    dtype: int,
    layout: int,
    samples: int,
    channels: int,
    pixels: int,
    negative_slope: float,
    gain: float,
    x: int,
    bias: int,
    y: int,
    device: int,
    number: int,
    /,
) -> None: ...
def bias_leaky_relu_gate(
    dtype: int,
    layout: int,
    samples: int,
    channels: int,
    pixels: int,
    negative_slope: float,
    gain: float,
    g: int,
    bias: int,
    y: int,
    out: int,
    device: int,
    number: int,
    /,
) -> None: ...
def bias_leaky_relu_backward(
    dtype: int,
    layout: int,
    samples: int,
    channels: int,
    pixels: int,
    negative_slope: float,
    gain: float,
    dy: int,
    y: int,
    dx: int,
    dbias: int,
    workspace: Workspace,
    device: int,
    number: int,
    /,
) -> None: ...

# csrc/include/cxrgan/adversarial_loss.h; kinds are numbered by LOSS_KINDS, gradients and the loss
# are float32.
def adversarial_loss_workspace(count: int, device: int, /) -> int: ...
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
    workspace: Workspace,
    device: int,
    number: int,
    /,
) -> None: ...
def generator_loss(
    kind: int,
    dtype: int,
    count: int,
    fake: int,
    gradient: int,
    loss: int,
    workspace: Workspace,
    device: int,
    number: int,
    /,
) -> None: ...

class AugmentedBatch:
    """Extents, shifts, holes and place of one call; csrc/include/cxrgan/augmented_batch.h.

    An address of 0 is none. Uniform numbers come with the stride from a sample's pair to the
    next's, images with dtype and layout.
    """

    def __init__(
        self,
        stored_samples: int,
        fake_samples: int,
        channels: int,
        height: int,
        width: int,
        translation: int,
        translation_stride: int,
        cutout: int,
        cutout_stride: int,
        device: int,
        number: int,
        /,
    ) -> None: ...
    def forward(
        self,
        pixels: int,
        count: int,
        rows: int,
        mirror: int,
        low: float,
        high: float,
        fake_dtype: int,
        fake_layout: int,
        fake: int,
        noise_layout: int,
        noise: int,
        noise_std: int,
        dtype: int,
        layout: int,
        out: int,
        /,
    ) -> None: ...
    def linear(
        self,
        tangent_dtype: int,
        tangent_layout: int,
        tangent: int,
        dtype: int,
        layout: int,
        out: int,
        /,
    ) -> None: ...
    def backward(
        self,
        gradient_dtype: int,
        gradient_layout: int,
        gradient: int,
        dtype: int,
        layout: int,
        out: int,
        /,
    ) -> None: ...
