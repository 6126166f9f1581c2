"""What this machine has and what was built for it: ``python -m cxrgan_fast.env [--json]``."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import sys
from typing import Any

import torch

from cxrgan_fast import __version__
from cxrgan_fast.command import run_command
from cxrgan_fast.errors import UserError
from cxrgan_fast.ops.backend import (
    BACKEND_VARIABLE,
    automatic_choices,
    available_backends,
    check_backend,
    load_native,
    selected_backend,
)
from cxrgan_fast.provenance import processor
from cxrgan_fast.training import allocator

_PURPOSE = "Print what this machine has and which kernels were built for it."
_PACKAGES = ("torch", "triton", "numpy", "pillow")
_CPU_FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "avx512_fp16")


def describe() -> dict[str, Any]:
    """Collect everything that ``python -m cxrgan_fast.env`` prints, as plain data for JSON."""
    return {
        "cxrgan_fast": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "cpu": _cpu(),
        "threads": torch.get_num_threads(),
        "allocator": allocator.describe(),
        "build": _build(),
        "backend": selected_backend(),
        "backend_error": _backend_error(),
        "auto": automatic_choices(),
        "backends": {
            name: {"runs_on": list(status.runs_on), "why_not": status.why_not}
            for name, status in available_backends().items()
        },
        "gpus": _gpus(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu() -> dict[str, Any]:
    model, flags = processor()
    core, _ = load_native()
    return {
        "model": model,
        "features": [flag for flag in _CPU_FLAGS if flag in flags],
        "simd_of_native_ops": core.simd_level() if core else None,
        "simd_of_torch": torch.backends.cpu.get_cpu_capability(),
    }


def _build() -> dict[str, Any]:
    core, reason = load_native()
    if core is None:
        return {"native": False, "reason": reason}
    return {"native": True, **core.build_info(), "openmp_runtime": core.openmp_runtime() or None}


def _backend_error() -> str | None:
    try:
        check_backend(selected_backend(), BACKEND_VARIABLE)
    except UserError as error:
        return str(error)
    return None


def _gpus() -> dict[str, Any]:
    """The GPUs as PyTorch and as the extension see them, since the two may disagree."""
    seen_by_torch = [
        {
            "name": torch.cuda.get_device_name(index),
            "compute_capability": list(torch.cuda.get_device_capability(index)),
        }
        for index in range(torch.cuda.device_count())
    ]
    core, reason = load_native()
    if core is None:
        return {"torch": seen_by_torch, "native": [], "native_error": reason}
    try:
        seen_by_native, error = core.cuda_devices(), None
    except RuntimeError as no_driver:
        seen_by_native, error = [], str(no_driver)
    return {"torch": seen_by_torch, "native": seen_by_native, "native_error": error}


def _lines(facts: dict[str, Any]) -> list[str]:
    packages = ", ".join(f"{name} {version or '-'}" for name, version in facts["packages"].items())
    cpu, build, gpus = facts["cpu"], facts["build"], facts["gpus"]
    lines = [
        f"cxrgan_fast  {facts['cxrgan_fast']}",
        f"python       {facts['python']} on {facts['platform']}",
        f"packages     {packages}",
        f"cpu          {cpu['model']}, {facts['threads']} threads",
        f"             features: {' '.join(cpu['features']) or 'none of interest'}",
        f"             vectors: native ops {cpu['simd_of_native_ops'] or '-'}, "
        f"torch {cpu['simd_of_torch']}",
        f"allocator    in training: {facts['allocator']}",
    ]
    if build["native"]:
        cuda = build["cuda_compiler"]
        archs = f"{cuda} for {build['cuda_architectures']}" if cuda else "not built"
        lines += [
            f"built        C++: {build['compiler']} for {' '.join(build['simd_levels'])}",
            f"             CUDA: {archs}",
            f"             OpenMP: {build['openmp_runtime'] or 'none found; one thread'}",
        ]
    else:
        lines.append(f"built        nothing: {build['reason']}")
    error = facts["backend_error"]
    choices = ", ".join(f"{name} for {device}" for device, name in facts["auto"].items())
    asked_for = f"{facts['backend']} ({error})" if error else facts["backend"]
    lines.append(f"backend      {asked_for}; auto: {choices}")
    lines += [_backend_line(name, **status) for name, status in facts["backends"].items()]
    names = [
        f"{gpu['name']} (sm_{''.join(map(str, gpu['compute_capability']))})"
        for gpu in gpus["torch"]
    ]
    lines.append(f"gpu          {', '.join(names) or 'none that PyTorch can use'}")
    for gpu in gpus["native"]:
        lines.append(
            f"             {gpu['name']}: {gpu['multiprocessors']} SMs, "
            f"{gpu['l2_bytes'] >> 20} MiB L2, {gpu['shared_bytes_per_block'] >> 10} KiB shared, "
            f"driver {gpu['driver_version']}, runtime {gpu['runtime_version']}; "
            + ("our code runs" if gpu["runs_our_code"] else f"our code: {gpu['probe_error']}")
        )
    if gpus["native_error"]:
        lines.append(f"             native: {gpus['native_error']}")
    return lines


def _backend_line(name: str, runs_on: list[str], why_not: dict[str, str]) -> str:
    devices_of: dict[str, list[str]] = {}
    for device, why in why_not.items():
        devices_of.setdefault(why, []).append(device)
    line = f"  {name:<10} " + (f"runs on {', '.join(runs_on)}" if runs_on else "does not run")
    for why, devices in devices_of.items():
        line += f"; not on {' or '.join(devices)}: {why}"
    return line


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(prog="python -m cxrgan_fast.env", description=_PURPOSE)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    facts_as_json = parser.parse_args().json
    allocator.keep_large_tensors_off_mmap()  # as the training program does, to say what comes of it
    facts = describe()
    print(json.dumps(facts, indent=2) if facts_as_json else "\n".join(_lines(facts)))


if __name__ == "__main__":
    sys.exit(run_command(main))
