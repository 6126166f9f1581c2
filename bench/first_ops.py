"""Of ``bench.first_minute``: is every op right, on every backend, path and layout?

They are held against the definition in float64, at the calls that the tests make: those of
``tests/support``, which are imported when they are asked for.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench import cases
from bench.cases import IMAGE_OPS, LAYOUTS
from bench.question import Answer, NotHereError, Question, Setting, WrongError
from bench.record import ROOT
from cxrgan_fast.errors import UserError
from cxrgan_fast.ops import available_backends, discriminator_loss, generator_loss, use_backend
from cxrgan_fast.ops.adversarial_loss import LOSS_KINDS
from cxrgan_fast.ops.backend import native
from cxrgan_fast.ops.conditional_batch_norm_kernels import use_cuda_path

DTYPES = {name: cases.DTYPES[name] for name in cases.MEASURED_DTYPES}
# The last of each has extents that no vector or tile divides. What a CPU emulates is small.
IMAGES = ((64, 512, 4, 4), (64, 128, 16, 16), (64, 32, 64, 64), (5, 7, 9, 11))
EMULATED_IMAGES = ((12, 40, 8, 8), (4, 8, 12, 12), (2, 3, 50, 50), (5, 7, 9, 11))
LOGITS = ((64,), (70,), (5001,), (57_600,))
# (C, H, W), so many stored images and so many generated ones.
BATCHES = (((1, 64, 64), 32, 32), ((3, 32, 32), 8, 8), ((1, 128, 128), 4, 4), ((1, 11, 13), 3, 5))
EMULATED_BATCHES = (
    ((1, 16, 16), 4, 4),
    ((3, 11, 20), 3, 5),
    ((1, 8, 8), 2, 1),
    ((1, 11, 13), 3, 5),
)


@dataclass(frozen=True)
class Way:
    """A backend, where its tensors are, and what is entered around its calls."""

    backend: str
    device: str
    paths: tuple[str, ...] = ("",)
    """Through conditional_batch_norm_act; of a backend that has one only, ""."""
    standing_in: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    unavailable: str = ""
    """Why it cannot be had here, or ""."""

    @property
    def emulated(self) -> bool:
        """Whether a CPU does slowly what a GPU would."""
        on_cpu = self.backend == "triton" and self.device == "cpu"
        return on_cpu or self.standing_in is not contextlib.nullcontext

    @contextlib.contextmanager
    def use(self, path: str) -> Iterator[None]:
        """Compute with it, on that path, in the block."""
        on_path = use_cuda_path(path) if path else contextlib.nullcontext()
        with self.standing_in(), use_backend(self.backend), on_path:
            yield


def ways_of(setting: Setting) -> list[Way]:
    """Every backend, also those that cannot be had here; paths are those of the extension."""
    found = []
    for backend, status in available_backends().items():
        if backend == "native" and setting.standin:
            found.append(_standin())
            continue
        reason = status.why_not.get(setting.device, "")
        paths: tuple[str, ...] = ("",)
        if backend == "native" and setting.device == "cuda" and not reason:
            paths = tuple(native().NORM_PATHS)
        found.append(Way(backend, setting.device, paths, unavailable=reason))
    return found


def _standin() -> Way:
    from cuda_standin import building, standing_in

    try:
        path = building.build(ROOT / "csrc", ROOT / "build" / "cuda_standin")
    except building.UnavailableError as error:
        return Way("native", "cpu", unavailable=str(error))
    module = building.load(path)
    return Way("native", "cpu", tuple(module.NORM_PATHS), partial(standing_in, module))


def about_ops(way: Way) -> Iterator[Question]:
    """Whether each op is right that way: one question a path and layout."""
    for op, path, layout in itertools.product(IMAGE_OPS, way.paths, LAYOUTS):
        if op != IMAGE_OPS[0] and path != way.paths[0]:
            continue  # there are no paths through the others
        named = path if op == IMAGE_OPS[0] else ""
        yield _question(way, op, named, layout, partial(_image_calls, op, way, layout))
    for op in ("discriminator_loss", "generator_loss"):
        yield _question(way, op, "", "", partial(_loss_calls, op, way))
    for layout in LAYOUTS:
        calls = partial(_input_calls, way, layout)
        yield _question(way, "augmented_batch", "", layout, calls)


@dataclass(frozen=True)
class Call:
    """A call of an op, and what it has to give."""

    name: str
    results: Callable[[], dict[str, Tensor]]
    truth: Callable[[], dict[str, Tensor]]


def _question(
    way: Way, op: str, path: str, layout: str, calls: Callable[[], Iterator[Call]]
) -> Question:
    words = " ".join(filter(None, [way.backend, path]))
    return Question(", ".join(filter(None, [op, words, layout])), partial(_op, way, path, calls))


@dataclass
class Errors:
    """How far results are from the truth."""

    worst: dict[str, float] = field(default_factory=dict)
    """By the dtype of the results."""
    wrong: list[str] = field(default_factory=list)
    seen: int = 0

    def add(self, call: Call, got: dict[str, Tensor], truth: dict[str, Tensor]) -> None:
        """Compare what a call has given."""
        from op_cases import relative_error

        for name, value in got.items():
            kind = str(value.dtype).removeprefix("torch.")
            error, allowed = relative_error(value, truth[name]), _allowed(value.dtype)
            self.seen += 1
            if not error <= allowed:
                off = f"{error:.1e} off the definition, {allowed:.1e} is allowed"
                self.wrong.append(f"{name} of {call.name} is {off}")
            worst = self.worst.get(kind, 0.0)
            self.worst[kind] = error if math.isnan(error) else max(worst, error)


def _allowed(dtype: torch.dtype) -> float:
    """As tests/ops/test_accuracy.py: float32 sums in another order, and one rounding."""
    return 1e-6 + (0 if dtype == torch.float32 else torch.finfo(dtype).eps / 2)


def _op(way: Way, path: str, calls: Callable[[], Iterator[Call]]) -> Answer:
    if way.unavailable:
        raise NotHereError(way.unavailable)
    errors, refused = Errors(), list[str]()
    for call in calls():
        truth = call.truth()
        try:
            with way.use(path):
                got = call.results()
        except UserError as error:
            if path in ("", "auto"):
                raise
            refused.append(str(error))  # a path that cannot take these images on this device
            continue
        errors.add(call, got, truth)
    details = {"worst": errors.worst, "results": errors.seen, "refused": refused}
    if errors.wrong:
        first = f"{errors.wrong[0]}; {len(errors.wrong)} of {errors.seen} results are wrong"
        raise WrongError(first, {**details, "wrong": errors.wrong})
    if not errors.seen:
        raise NotHereError(refused[0])
    line = ", ".join(f"{kind} at most {worst:.1e} off" for kind, worst in errors.worst.items())
    line += f" in {errors.seen} results"
    return line + (f"; {len(refused)} calls that this path cannot take" if refused else ""), details


def _image_calls(op: str, way: Way, layout: str) -> Iterator[Call]:
    from op_cases import batch_norm_case, bias_leaky_relu_case

    make = batch_norm_case if op == "conditional_batch_norm_act" else bias_leaky_relu_case
    shapes = EMULATED_IMAGES if way.emulated else IMAGES
    for shape, (name, dtype) in itertools.product(shapes, DTYPES.items()):
        case = make(shape, dtype=dtype, layout=layout, device=way.device)
        yield Call(f"{shape} {name}", case.results, case.truth)


def _loss_calls(op: str, way: Way) -> Iterator[Call]:
    for shape, (name, dtype), kind in itertools.product(LOGITS, DTYPES.items(), LOSS_KINDS):
        # Apart, so that the difference of their means is no rounding error.
        logits = [(torch.randn(shape) + side).to(way.device, dtype) for side in (1, -1)]

        def results(double: bool, op: str = op, kind: Any = kind, logits: Any = logits) -> Any:
            real, fake = (
                (each.double() if double else each.clone()).requires_grad_() for each in logits
            )
            if op == "generator_loss":
                given, loss = [fake], generator_loss(fake, kind=kind)
            else:
                given, loss = [real, fake], discriminator_loss(real, fake, kind=kind)
            gradients = torch.autograd.grad(loss, given)
            return {"loss": loss.detach(), **{f"grad_{i}": g for i, g in enumerate(gradients)}}

        def truth(results: Any = results) -> dict[str, Tensor]:
            with use_backend("reference"):
                return dict(results(True))

        yield Call(f"{kind}, {shape[0]} logits {name}", partial(results, False), truth)


def _input_calls(way: Way, layout: str) -> Iterator[Call]:
    from augmented_batch_cases import input_case

    batches = EMULATED_BATCHES if way.emulated else BATCHES
    for (image, stored, fakes), (name, dtype) in itertools.product(batches, DTYPES.items()):
        drawn = input_case(
            image,
            stored=stored,
            fakes=fakes,
            fake_dtype=dtype,
            arrange=lambda x: x.contiguous(memory_format=LAYOUTS[layout]),
        )
        case = drawn.on(way.device)
        assert case.fake is not None
        given = case.fake

        def results(function: Any, fake: Tensor) -> dict[str, Tensor]:
            fake = fake.detach().requires_grad_()
            output = function(fake)
            # Rounded once more where the output is: the gradient that comes back is the same.
            back = torch.ones_like(output) * 0.5
            (gradient,) = torch.autograd.grad(output, fake, back)
            return {"output": output.detach(), "grad_fake": gradient}

        yield Call(
            f"{stored} + {fakes} images of {image} {name}",
            partial(results, case.call, given),
            partial(results, case.composed, given.double()),
        )
