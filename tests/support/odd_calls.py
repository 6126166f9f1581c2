"""A right call of each command, small, and doubles of what ``bench`` and ``research`` do for long.

What is doubled is what a command measures, not what it reads, checks or writes.
"""

from __future__ import annotations

from typing import Any

import bench.busy
import bench.damaged_checkpoints
import bench.data
import bench.first_minute
import bench.kernels
import bench.kills
import bench.predict
import bench.profile_step
import bench.reference_gan
import bench.sanitize
import bench.throughput
import cxrgan_fast.study
import research.certainty
import research.compare_settings
import research.copies
import research.cxr_features
import research.cxr_held_out
import research.cxr_ssl_features
import research.disturbances
import research.extractors
import research.markers
import research.parity
import research.simulated_studies
from bench.first_minute import ANSWERED, Result
from bench.record import RESULTS, ROOT
from cxrgan_fast.metrics.copies import Threshold
from cxrgan_fast.metrics.cxr_network import CxrNetwork
from cxrgan_fast.metrics.cxr_ssl_network import CxrSslNetwork
from cxrgan_fast.studies import sweep, worker

SPACE = ROOT / "tests" / "support" / "space.yaml"
ARMS = ROOT / "research" / "arms" / "r1_gamma.yaml"
KERNELS, THROUGHPUT = RESULTS / "kernels_cpu.json", RESULTS / "throughput_cpu.json"
IN_32 = {"--data": "DATA", "--resolution": "32"}
TINY = {**IN_32, "--base-channels": "8", "--batch-size": "4", "--device": "cpu"}

TINY_FLAGS = "--resolution 32 --base-channels 8 --batch-size 4"
TINY_GAN = "--resolution 32 --base-channels 8 --batch-size 4 --steps 1"

SMALLEST = {
    "--device": "cpu", "--precision": "fp32", "--resolution": "32", "--base-channels": "8",
    "--latent-size": "8", "--batch-size": "4", "--phantom-images": "12", "--steps": "1",
    "--threads": "1", "--r1-gamma": "0",
}  # fmt: skip
# By the command's names: what has no flag, and the flags. OUT, DATA, RUN and so on stand for paths.
CALLS: dict[tuple[str, str], tuple[list[str], dict[str, str]]] = {
    ("train", ""): ([], {**SMALLEST, "--out": "OUT"}),
    ("generate", ""): (["RUN"], {"--out": "OUT", "--n-per-class": "1", "--device": "cpu"}),
    ("evaluate", ""): (
        ["RUN"],
        {"--out": "OUT", "--features": "pixels", "--metrics": "fid", "--samples": "4",
         "--device": "cpu"},
    ),
    ("sweep", ""): (
        ["name"],
        {"--data": "DATA", "--train": TINY_FLAGS, "--features": "pixels", "--steps-per-trial": "1",
         "--space": str(SPACE), "--trials": "1", "--device": "cpu", "--out": "OUT"},
    ),
    ("study", ""): (
        ["name"],
        {"--data": "PUBLISHED", "--sizes": "all", "--arms": "RA,RAS", "--seeds": "2",
         "--out": "OUT", "--train": TINY_GAN, "--device": "cpu"},
    ),
    ("data", "prepare"): (
        ["DATA", "OUT"],
        {"--resolution": "16", "--val-share": "0", "--test-share": "0", "--workers": "1"},
    ),
    ("data", "inspect"): (["DATA"], {"--workers": "1"}),
    ("data", "subset"): (["DATA", "OUT"], {"--per-class": "1"}),
    ("data", "download"): (["OUT"], {}),
    ("env", ""): ([], {}),
    ("bench.busy", ""): ([], {"--out": "OUT"}),
    ("bench.compare", ""): ([str(THROUGHPUT), str(THROUGHPUT)], {}),
    ("bench.damaged_checkpoints", ""): ([], {"--out": "OUT"}),
    ("bench.data", ""): (["OUT"], {"--data": "DATA"}),
    ("bench.first_minute", ""): ([], {"--device": "cpu", "--json": "OUT"}),
    ("bench.fits", ""): (["DATA", "OUT.png"], {}),
    ("bench.grouped_convolutions", ""): (
        ["OUT"], {"--shapes": "2x64x8", "--rounds": "1"},
    ),
    ("bench.kernels", ""): (
        [],
        {"--ops": "generator_loss", "--dtypes": "float32", "--against": "eager",
         "--seconds-per-case": "0.001", "--out": "OUT"},
    ),
    ("bench.kills", ""): ([], {"--out": "OUT"}),
    ("bench.packages", ""): (["numpy"], {}),
    ("bench.page", ""): ([str(KERNELS), "PAGE"], {}),
    ("bench.plot", ""): ([str(THROUGHPUT), "OUT.png"], {}),
    ("bench.predict", ""): ([], {"--out": "OUT", "--shapes": "4x16x8x8"}),
    ("bench.profile_step", ""): ([], {**TINY, "--precision": "fp32", "--out": "OUT"}),
    ("bench.reference_gan", ""): ([], {**TINY, "--steps": "1", "--workers": "0"}),
    ("bench.sanitize", ""): ([], {"--device": "cpu"}),
    ("bench.step_cost", ""): (
        ["OUT"],
        {"--arms": "resnet", "--resolutions": "32", "--batch-size": "2", "--base-channels": "8",
         "--precision": "fp32", "--rounds": "1"},
    ),
    ("bench.throughput", ""): (
        [],
        {**IN_32, "--batch-size": "4", "--device": "cpu", "--variants": "eager", "--out": "OUT"},
    ),
    ("bench.training_run", ""): (["RUN", "OUT"], {}),
    ("research.certainty", ""): ([], {"--repetitions": "2", "--out": "OUT"}),
    ("research.copies", ""): (
        [], {**IN_32, "--features": "pixels", "--copies": "1", "--out": "OUT"},
    ),
    ("research.cxr_features", ""): ([], {"--data": "PUBLISHED", "--out": "OUT.safetensors"}),
    ("research.cxr_held_out", ""): ([], {"--data": "PUBLISHED", "--out": "OUT"}),
    ("research.cxr_ssl_features", ""): ([], {"--data": "PUBLISHED", "--out": "OUT.safetensors"}),
    ("research.extractors", ""): (
        [], {"--data": "PUBLISHED", "--features": "pixels", "--out": "OUT"},
    ),
    ("research.compare_settings", ""): (
        [],
        {"--data": "PUBLISHED", "--device": "cpu", "--features": "pixels", "--arm": "one",
         "--arms": str(ARMS), "--steps": "2", "--out": "OUT", "--work": "OUT.work",
         "--train": "--resolution 32 --base-channels 8 --batch-size 4"},
    ),
    ("research.disturbances", ""): ([], {**IN_32, "--features": "pixels", "--out": "OUT"}),
    ("research.markers", ""): (["OUT"], {"--phantoms": "1"}),
    ("research.parity", ""): (
        [],
        {**TINY, "--data": "PUBLISHED", "--features": "pixels", "--precisions": "fp32",
         "--steps": "10", "--out": "OUT", "--work": "OUT.work"},
    ),
    ("research.simulated_studies", ""): ([], {"--studies": "2", "--out": "OUT"}),
}  # fmt: skip

# What an option needs beside it to do something.
BESIDE = {
    ("train", "--features"): {"--eval-every": "1", "--eval-samples": "2"},
    ("train", "--eval-samples"): {"--eval-every": "1", "--features": "pixels"},
    ("train", "--inception-weights"): {"--eval-every": "1", "--features": "inception"},
    ("train", "--features-weights"): {"--eval-every": "1", "--features": "dinov2"},
    ("evaluate", "--inception-weights"): {"--features": "inception"},
    ("evaluate", "--features-weights"): {"--features": "dinov2"},
    ("train", "--early-steps"): {"--loss": "minimax"},
    ("train", "--momentum"): {"--optimizer": "sgd"},
    ("train", "--noise-decay-steps"): {"--noise-std": "0.1"},
    ("train", "--r1-interval"): {"--r1-gamma": "1"},
    ("train", "--reuse-real-logits"): {"--loss": "relativistic"},
    ("research.markers", "--data"): {"--sheet": "OUT.png"},
    ("research.markers", "--sheet"): {"--data": "DATA"},
    ("bench.throughput", "--batch-sizes"): {"--sweep": "", "--resolutions": "32"},
    ("bench.throughput", "--resolutions"): {"--sweep": "", "--batch-sizes": "4"},
}
_TRAINED = {
    "seed": 0,
    "images_per_second": 1.0,
    "snapshots": [{"images": 4, "seconds": 1.0, "fid": 1.0, "kid": 1.0, "nearest_neighbour": 1.0}],
}
_POINT: dict[str, Any] = {"resolution": 32, "batch_size": 4, "variants": {}, "left_out": {}}
_PROFILE = {"wall_ms_per_step": 1.0, "grouped_ms_per_step": 1.0, "groups": []}
_LOSSES = {"d_loss": 1.0, "g_loss": 1.0}

# Of each command what is long, as owner and name, and what it gives.
DOUBLES: dict[str, list[tuple[object, str, object]]] = {
    "bench.busy": [(bench.busy, "measure", {"images_per_second": 1.0})],
    "bench.damaged_checkpoints": [
        (bench.damaged_checkpoints, "measure", {"checkpoints": {}, "generators": {}})
    ],
    "bench.data": [
        (bench.data, "seconds", {"seconds": [1.0]}),
        (bench.data, "of_commands", {}),
    ],
    "bench.first_minute": [
        (bench.first_minute, "results", [Result("what", ANSWERED, "this", 0.1, {})])
    ],
    "bench.kernels": [
        (bench.kernels, "overheads", []),
        (bench.kernels, "measure", {"eager": [1.0], "fused": [1.0]}),
    ],
    "bench.kills": [(bench.kills, "measure", {"counts": {}})],
    "bench.predict": [(bench.predict, "predict", []), (bench.predict, "by_path", [])],
    "bench.profile_step": [(bench.profile_step, "profile_step", _PROFILE)],
    "bench.reference_gan": [(bench.reference_gan, "train", (_LOSSES, [1.0]))],
    "bench.sanitize": [(bench.sanitize, "run_all", (1, 0, 0))],
    "bench.throughput": [(bench.throughput, "measure_point", _POINT)],
    "sweep": [(worker.Worker, "work", None), (sweep, "run_workers", None)],
    "study": [
        (cxrgan_fast.study, "run_study", []),
        (cxrgan_fast.study, "report_study", ""),
        (cxrgan_fast.study, "measure_times", {"gan": 1.0, "classifier": 1.0}),
    ],
    "research.cxr_features": [
        (research.cxr_features, "train", CxrNetwork()),
        (research.cxr_features, "scores", {}),
    ],
    "research.certainty": [
        (research.certainty, "repeat", {}),
        (research.certainty, "summary", {}),
        (research.certainty, "report", ""),
    ],
    "research.compare_settings": [
        (research.compare_settings, "_all_of", None),
        (research.compare_settings, "_tell", None),
    ],
    "research.copies": [
        (research.copies, "calibrate", Threshold(0.9, 0.0, 20)),
        (research.copies, "found_copies", {}),
        (research.copies, "new_images", {}),
        (research.copies, "p_values", {}),
        (research.copies, "timed_search", {}),
        (research.copies, "report", ""),
    ],
    "research.cxr_ssl_features": [(research.cxr_ssl_features, "train", (CxrSslNetwork(), 1.0))],
    "research.extractors": [
        (research.extractors, "measure", {}),
        (research.extractors, "report", ""),
    ],
    "research.cxr_held_out": [
        (research.cxr_held_out, "features_of", None),
        (research.cxr_held_out, "measure", {"fid": {}, "kid": {}}),
    ],
    "research.disturbances": [
        (research.disturbances, "measure", {}),
        (research.disturbances, "report", ""),
    ],
    "research.markers": [(research.markers, "on_phantoms", {})],
    "research.parity": [
        (research.parity.Experiment, "do", {"reference": _TRAINED, "fp32": _TRAINED})
    ],
    "research.simulated_studies": [
        (research.simulated_studies, "estimate", {}),
        (research.simulated_studies, "summarize", {}),
        (research.simulated_studies, "report", ""),
    ],
}
