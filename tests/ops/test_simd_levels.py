"""Every native CPU op passes its tests with each lower instruction set that was built."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxrgan_fast.ops.backend import load_native
from op_cases import NATIVE_CPU
from programs import run_program

core, why_not = load_native()
LEVELS = core.build_info()["simd_levels"] if core else []
HERE = Path(__file__).parent

# In a process of its own: the level is chosen once. Its own plugins and options are not repeated.
TESTS = f"""
import sys
import pytest
from cxrgan_fast.ops.backend import native

if native().simd_level() != sys.argv[1]:
    print("runs", native().simd_level())
    sys.exit()
files = ["accuracy", "any_shape", "special_values", "adversarial_loss", "augmented_batch"]
code = pytest.main([
    "-q", "-x", "-p", "no:cacheprovider", "-k", "{NATIVE_CPU}",
    *(f"{HERE}/test_{{name}}.py" for name in files),
])
sys.exit(code)
"""


@pytest.mark.long
@pytest.mark.skipif(core is None, reason=why_not)
@pytest.mark.parametrize("level", LEVELS[:-1] or ["baseline"])
def test_lower_instruction_sets(level: str) -> None:
    printed = run_program(TESTS, level, seconds=300, CXRGAN_SIMD=level)
    if printed.startswith("runs"):
        pytest.skip(f"this processor has no {level}: {printed.strip()}")
    assert " passed" in printed
