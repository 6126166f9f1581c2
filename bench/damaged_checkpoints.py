"""``python -m bench.damaged_checkpoints [--files 1000] [--out FILE]``: is all damage noticed?

So many checkpoints, and as many generators, are damaged as disks and networks damage files: a bit
flipped, a block of zeros, of other bytes or of another place, the end cut off, something after it.
Each must be named, and the older checkpoint be taken; or hold the very same state, where the damage
met a byte that means nothing.
"""

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from bench.command import check, parser_of, recorded
from bench.kills import CPU, SETTINGS, same_bits
from bench.record import RESULTS, write_result
from cxrgan_fast.command import run_command
from cxrgan_fast.errors import UserError
from cxrgan_fast.runs.checkpoint import checkpoint_path, generator_path, load_newest_checkpoint
from cxrgan_fast.runs.generator_file import GeneratorSnapshot, load_generator
from cxrgan_fast.settings.config import TrainConfig, override
from cxrgan_fast.training.loop import train

KINDS = ("bit", "zeros", "noise", "swapped", "cut", "longer")
BLOCKS = (16, 512, 4096)


def damaged(content: bytes, kind: str, rng: random.Random) -> bytes:
    """A file as damage of a kind leaves it; never as it was."""
    while True:
        changed = bytearray(content)
        at, block = rng.randrange(len(content)), rng.choice(BLOCKS)
        part = changed[at : at + block]
        if kind == "bit":
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == "zeros":
            changed[at : at + block] = bytes(len(part))
        elif kind == "noise":
            changed[at : at + block] = rng.randbytes(len(part))
        elif kind == "swapped":
            other = rng.randrange(len(content) - len(part) + 1)
            changed[at : at + block] = content[other : other + len(part)]
        elif kind == "cut":
            changed = changed[:at]
        else:
            changed += rng.randbytes(block)
        if changed != content:
            return bytes(changed)


def of_checkpoints(run: Path, files: int, rng: random.Random) -> dict[str, dict[str, int]]:
    """Damage the newest of two checkpoints again and again; count what loading gives, by kind."""
    newest = checkpoint_path(run, 2)
    content, whole = newest.read_bytes(), load_newest_checkpoint(run, CPU).state

    def outcome() -> str:
        found = load_newest_checkpoint(run, CPU)
        if found.path != newest:
            return "named and passed over" if found.damaged[0][0] == newest else "not named"
        return "the same state" if same_bits(found.state, whole) else "another state"

    return _count(newest, content, files, rng, outcome)


def of_generators(run: Path, files: int, rng: random.Random) -> dict[str, dict[str, int]]:
    """Damage a generator again and again; count what loading gives, by kind."""
    path = generator_path(run, 2)
    content, whole = path.read_bytes(), _told(load_generator(path))

    def outcome() -> str:
        try:
            found = load_generator(path)
        except UserError as error:
            return "named and refused" if str(path) in str(error) else "not named"
        return "the same state" if same_bits(_told(found), whole) else "another state"

    return _count(path, content, files, rng, outcome)


def _told(snapshot: GeneratorSnapshot) -> list[Any]:
    weights = dict(snapshot.generator.state_dict())
    return [weights, snapshot.network, snapshot.class_names, snapshot.step, snapshot.extra]


def _count(
    path: Path, content: bytes, files: int, rng: random.Random, outcome: Any
) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for number in range(files):
        kind = KINDS[number % len(KINDS)]
        path.write_bytes(damaged(content, kind, rng))
        try:
            counts[kind][outcome()] += 1
        except Exception as error:  # what no user should meet
            counts[kind][f"failed with {type(error).__name__}"] += 1
    path.write_bytes(content)
    return {kind: dict(of_kind) for kind, of_kind in counts.items()}


def measure(files: int, seed: int, folder: Path) -> dict[str, Any]:
    """Train for two steps, and damage what that has written."""
    config = override(TrainConfig(), {**SETTINGS, "steps": 2, "out": folder})
    run, _ = train(config, CPU)
    rng = random.Random(seed)
    return {
        "seed": seed,
        "files": files,
        "checkpoints": of_checkpoints(run, files, rng),
        "generators": of_generators(run, files, rng),
        "settings": SETTINGS,
    }


def main() -> None:
    """Parse, measure, write, print."""
    parser = parser_of("bench.damaged_checkpoints", __doc__)
    parser.add_argument("--files", type=int, default=1000, help="damaged files of each sort")
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    out = RESULTS / "damaged_checkpoints.json"
    parser.add_argument("--out", type=Path, default=out, help="file to write")
    options = parser.parse_args()
    check(options, least={"files": 1})
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        measurements = measure(options.files, options.seed, Path(folder))
    write_result(options.out, recorded("bench.damaged_checkpoints"), measurements)
    for sort in ("checkpoints", "generators"):
        total: Counter[str] = Counter()
        for counts in measurements[sort].values():
            total.update(counts)
        print(f"{sort}: " + ", ".join(f"{name} {count}" for name, count in total.items()))


if __name__ == "__main__":
    sys.exit(run_command(main))
