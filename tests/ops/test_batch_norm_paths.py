"""Each path of the native CUDA kernels, forced: on a GPU, or their source on the CPU."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from cxrgan_fast.errors import UserError
from cxrgan_fast.ops.backend import workspace
from cxrgan_fast.ops.conditional_batch_norm_kernels import _problem, use_cuda_path
from op_cases import CASES, DTYPES, LAYOUTS, NATIVE, Shape, Target, batch_norm_case, relative_error
from programs import run_program

GPUS = tuple(target for target in NATIVE if target.standin == "auto" or target.device == "cuda")
PATHS = ("two_pass", "slab", "cluster", "persistent")
SHAPES = [
    (12, 40, 8, 8),
    (5, 24, 13, 9),  # planes of an odd size: packets across their edges
    (3, 7, 30, 5),  # odd numbers of channels
    (80, 16, 2, 2),  # planes smaller than a packet
    (9, 64, 1, 1),
    (2, 3, 50, 50),  # planes cut into pieces
]
# The stand-in's four multiprocessors have a block each, and a block no more than one channel of
# contiguous images.
FEW_CHANNELS = {shape: (shape[0], min(shape[1], 4), *shape[2:]) for shape in SHAPES}

on_gpus = pytest.mark.parametrize("target", GPUS, indirect=True, ids=str)


def shape_for(path: str, shape: Shape) -> Shape:
    return FEW_CHANNELS.get(shape, (shape[0], 4, *shape[2:])) if path == "persistent" else shape


def skip_without_clusters(device: str, path: str) -> None:
    if path == "cluster" and device == "cuda" and torch.cuda.get_device_capability()[0] < 9:
        pytest.skip("no thread-block clusters before compute capability 9.0")


@on_gpus
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_path_is_as_exact_as_eager(
    device: str, shape: Shape, dtype: torch.dtype, layout: str, path: str
) -> None:
    skip_without_clusters(device, path)
    case = batch_norm_case(shape_for(path, shape), dtype=dtype, layout=layout, device=device)
    eager, truth = case.results(function=case.eager), case.truth()
    with use_cuda_path(path):
        got = case.results()
    for name, value in got.items():
        allowed = 1e-6
        if dtype != torch.float32:
            allowed = max(allowed, 1.1 * relative_error(eager[name], truth[name]))
        assert relative_error(value, truth[name]) < allowed, name


@on_gpus
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_class_for_each_sample(device: str, layout: str, path: str) -> None:
    skip_without_clusters(device, path)
    shape = shape_for(path, (17, 20, 6, 6))
    case = batch_norm_case(shape, classes=0, layout=layout, device=device)
    truth = case.truth()
    with use_cuda_path(path):
        for name, value in case.results().items():
            assert relative_error(value, truth[name]) < 1e-6, name


@on_gpus
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("label", [-1, 3, -(2**62), 2**62])
def test_a_label_out_of_range_spoils_its_sample_alone(
    device: str, label: int, layout: str, path: str
) -> None:
    skip_without_clusters(device, path)
    case = batch_norm_case(shape_for(path, (6, 10, 5, 7)), layout=layout, device=device)
    with use_cuda_path(path):
        before = case.results()
        case.labels[2] = label
        got = case.results()
    others = [0, 1, 3, 4, 5]
    assert got["output"][2].isnan().all()
    assert got["grad_input"][2].isnan().all()
    assert torch.equal(got["output"][others], before["output"][others])
    assert got["grad_input"][others].isfinite().all()
    assert got["grad_weight"].isfinite().all()
    assert torch.equal(got["running_var"], before["running_var"])


@on_gpus
@pytest.mark.parametrize("op", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("offset", [1, 3])
def test_views_at_any_address(
    device: str, offset: int, dtype: torch.dtype, layout: str, op: str
) -> None:
    """An image need not begin where 16 bytes can be accessed at once."""
    case = CASES[op]((4, 16, 6, 8), dtype=dtype, layout=layout, device=device)
    truth = case.results()
    image = case.variables["input"]
    storage = torch.full((image.numel() + 16,), float("nan"), dtype=dtype, device=device)
    moved = storage[offset : offset + image.numel()].as_strided(
        image.shape, image.stride(), storage.storage_offset() + offset
    )
    moved.copy_(image)
    case.variables["input"] = moved
    output = case.call(case.variables, {name: each.clone() for name, each in case.state.items()})
    # A moved image may be summed in another order, after which 16 bits may round to a neighbour.
    rtol = max(1e-6, torch.finfo(dtype).eps if dtype != torch.float32 else 0)
    torch.testing.assert_close(output, truth["output"], rtol=rtol, atol=1e-6)
    outside = torch.cat([storage[:offset], storage[offset + image.numel() :]])
    assert outside.isnan().all()


@on_gpus
def test_a_path_that_cannot_be_taken_is_refused(device: str) -> None:
    case = batch_norm_case((16, 2, 160, 160), device=device)  # 1.6 MB a channel
    with (
        use_cuda_path("slab"),
        pytest.raises(UserError, match=r"path 'slab' cannot take .*\(16, 2, 160, 160\).*forward"),
    ):
        case.results()


@pytest.mark.parametrize("target", NATIVE[:1], indirect=True, ids=str)
def test_an_unknown_path_is_refused(target: Target) -> None:
    with (
        pytest.raises(UserError, match=r"unknown path 'fast'; expected one of .*two_pass"),
        use_cuda_path("fast"),
    ):
        pass


CHECK = "import standin_check; standin_check.main()"


@pytest.mark.long
@pytest.mark.parametrize("order", ["forwards", "backwards", "1", "2", "eager"])
def test_no_order_of_threads_shows(order: str, cuda_standin: ModuleType) -> None:
    """What depends on the order in which threads or blocks get their turns lacks a barrier."""
    module = str(cuda_standin.__file__)
    printed = run_program(
        CHECK,
        module,
        ",".join(PATHS),
        CXRGAN_STANDIN_ORDER=order,
        CXRGAN_STANDIN_DEVICE="sms=80,cc=90,shared=232448",
    )
    assert printed == "right\n"


@pytest.mark.first_tier(1)
@pytest.mark.parametrize(
    ("gpu", "paths"),
    [
        ("sms=40,cc=75,shared=65536", "auto,two_pass,persistent"),  # a T4
        ("sms=40,cc=75,shared=65536,cooperative=0", "auto,two_pass"),
        ("sms=82,cc=86,shared=101376", "auto,two_pass,persistent"),
        ("sms=108,cc=80,shared=166912", "auto,two_pass,persistent"),
        ("sms=1,cc=90,shared=232448", "auto,two_pass"),
        ("sms=16,cc=90,shared=232448", "auto,two_pass"),
        ("sms=132,cc=90,shared=232448", "auto,two_pass,persistent"),
        # It keeps a part of its images, or nothing at all, and reads the rest again.
        ("sms=80,cc=90,shared=16384", "persistent"),
        ("sms=80,cc=90,shared=3000", "persistent"),
    ],
)
def test_other_gpus(gpu: str, paths: str, cuda_standin: ModuleType) -> None:
    module = str(cuda_standin.__file__)
    printed = run_program(CHECK, module, paths, CXRGAN_STANDIN_DEVICE=gpu)
    assert printed == "right\n"


@pytest.mark.long
def test_blocks_that_cannot_wait_for_each_other_take_other_paths(cuda_standin: ModuleType) -> None:
    module = str(cuda_standin.__file__)
    for cooperative, expected in ((1, "persistent persistent"), (0, "two_pass two_pass")):
        gpu = f"sms=132,cc=80,shared=166912,cooperative={cooperative}"
        printed = run_program(PATHS_TAKEN, module, "persistent", CXRGAN_STANDIN_DEVICE=gpu)
        assert printed.splitlines()[1] == expected


PATHS_TAKEN = """
import sys
from pathlib import Path
from cuda_standin import building

core = building.load(Path(sys.argv[1]))
for layout in (core.CONTIGUOUS, core.CHANNELS_LAST):
    problem = core.ConditionalBatchNorm(
        core.FLOAT32, layout, 64, 512, 16, 1e-5, 0.2, 2, 0, 0, 0, 0, 0,
        core.NORM_PATHS[sys.argv[2]],
    )
    print(*problem.paths(0))
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("gpu", "expected"),
    [
        ("sms=132,cc=90,shared=232448", "cluster cluster"),
        # A GPU that has clusters, and a build that has only PTX from before them.
        ("sms=132,cc=90,ptx=80,shared=232448", "two_pass two_pass"),
        ("sms=108,cc=80,shared=166912", "two_pass two_pass"),
    ],
)
def test_clusters_only_where_the_code_knows_of_them(
    gpu: str, expected: str, cuda_standin: ModuleType
) -> None:
    module = str(cuda_standin.__file__)
    printed = run_program(PATHS_TAKEN, module, "cluster", CXRGAN_STANDIN_DEVICE=gpu)
    assert printed.splitlines() == [expected] * 2


WORKSPACES = """
import sys
from pathlib import Path
from cuda_standin import building

core = building.load(Path(sys.argv[1]))
for layout in (core.CONTIGUOUS, core.CHANNELS_LAST):
    for path in core.NORM_PATHS.values():
        problem = core.ConditionalBatchNorm(
            core.BFLOAT16, layout, 32, 64, 4096, 1e-5, 0.2, 2, 0, 0, 0, 0, 0, path
        )
        image = 2 * 32 * 64 * 4096
        print(problem.forward_workspace(0) / image, problem.backward_workspace(0, 0) / image)
"""


@pytest.mark.long
def test_the_workspace_is_small_beside_an_image(cuda_standin: ModuleType) -> None:
    """As it has to be for what tests/gpu/test_cost.py asks of the whole: 2.1 images."""
    gpu = "sms=132,cc=90,shared=232448"
    printed = run_program(WORKSPACES, str(cuda_standin.__file__), CXRGAN_STANDIN_DEVICE=gpu)
    shares = [float(word) for word in printed.split()]
    assert len(shares) == 2 * 5 * 2
    assert 0 < max(shares) < 0.02


@on_gpus
def test_too_small_a_workspace_is_refused(target: Target, device: str) -> None:
    case = batch_norm_case((4, 16, 6, 8), device=device)
    tensors = [case.variables["input"], case.labels]
    tensors += [case.variables["weight"], case.variables["bias"]]
    with use_cuda_path("two_pass"):
        problem = _problem(*tensors, 0.2, eps=1e-5)
    x = tensors[0].data_ptr()
    y, (mean, var, rstd) = torch.empty_like(tensors[0]), torch.empty(3, 16, device=device)
    needed = problem.forward_workspace(x)
    scratch = workspace(needed, tensors[0])
    outputs = [each.data_ptr() for each in (y, mean, var, rstd)]
    message = (
        rf"conditional_batch_norm_act of 4×16 images of 48 .*a workspace of {needed // 8} bytes"
    )
    with pytest.raises(RuntimeError, match=message):
        problem.forward(x, *outputs, 0, 0, 0.0, (scratch.memory[0], needed // 8))
