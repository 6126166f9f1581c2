"""A program that prepares sets and prints what became of every file, and the memory it took."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from cxrgan_fast.data.preparation import Preparation
from cxrgan_fast.data.prepare import Division, prepare_set
from cxrgan_fast.data.sources import open_source
from cxrgan_fast.errors import UserError


def main() -> None:
    """Prepare argv[1:-1], each into a folder of argv[-1] of its own, by $WORKERS threads."""
    results: list[dict[str, Any]] = []
    for place, source in enumerate(sys.argv[1:-1]):
        out = Path(sys.argv[-1]) / str(place)
        division = Division(val_share=0, test_share=0)
        try:
            opened = open_source(source)
            made = prepare_set(
                opened,
                out,
                Preparation(16),
                division=division,
                skip_bad=True,
                workers=int(os.environ.get("WORKERS", "2")),
                progress=False,
            )
        except UserError as error:
            results.append({"error": str(error)})
            continue
        read = [row.file for row in made.rows]
        results.append({"read": read, "left_out": made.left_out})
    # Not getrusage, which begins with what the parent took when it started this program.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(json.dumps({"results": results, "peak": int(peak) * 1024}))


if __name__ == "__main__":
    main()
