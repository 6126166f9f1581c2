"""``python -m bench.training_run RUN FILE``: keep a run's settings and measurements as one JSON."""

import json
import statistics
import sys
from pathlib import Path

import yaml

from bench.command import check, parser_of
from bench.record import write_result
from cxrgan_fast.command import run_command
from cxrgan_fast.errors import UserError
from cxrgan_fast.settings.config import PRESETS, TrainConfig, flatten, override
from cxrgan_fast.settings.config_file import read_config_file


def _changed_flags(path: Path) -> list[str]:
    """The flags that give this configuration, beside those that the preset gives."""
    given = read_config_file(path)
    preset = {"preset": given["preset"], **PRESETS[given["preset"]]}
    usual = flatten(override(TrainConfig(), preset))
    changed = {name: value for name, value in given.items() if value != usual[name]}
    changed["data"] = Path(given["data"]).name
    changed.pop("out", None)
    return [_flag(name.replace("_", "-"), value) for name, value in changed.items()]


def _flag(name: str, value: object) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    values = value if isinstance(value, tuple) else (value,)
    return " ".join([f"--{name}", *map(str, values)])


def main() -> None:
    """Read the run folder, write the file, print the summary."""
    parser = parser_of("bench.training_run", __doc__)
    parser.add_argument("run", type=Path, help="the run folder")
    parser.add_argument("file", type=Path, help="where the JSON goes")
    arguments = parser.parse_args()
    check(arguments, out="file")
    run = arguments.run
    try:
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        config = yaml.safe_load((run / "config.yaml").read_text())
        dataset = json.loads((run / "dataset.json").read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{run} is not a run folder: {error}") from None
    if not rows:
        raise UserError(f"{run} has no measurements yet: train for at least --log-every steps")
    # Whose machine and which folder says nothing about the measurement.
    config["dataset"]["data"], config["output"]["out"] = dataset["name"], "runs"
    last = rows[-1]
    summary = {
        "steps": last["step"],
        "images_shown": last["images"],
        "minutes": round(last["seconds"] / 60, 2),
        "images_per_second_overall": round(last["images"] / last["seconds"], 1),
        "images_per_second_median": statistics.median(row["images_per_second"] for row in rows),
    }
    command = " ".join(["python -m cxrgan_fast.train", *_changed_flags(run / "config.yaml")])
    measurements = {"summary": summary, "dataset": dataset, "config": config, "metrics": rows}
    write_result(arguments.file, command, measurements)
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    sys.exit(run_command(main))
