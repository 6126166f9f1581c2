"""The tests of a changed file are found by its name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in (ROOT / "cxrgan_fast", ROOT / "kernels")
    for path in folder.rglob("[!_]*.py")
    if "cxrgan_fast/kernels" not in path.as_posix()  # kernels/ by another name
)

# Where there is none of its name: the test that it is part of.
ELSEWHERE = {
    # One reading of an image, in parts; what they do is asked of the whole.
    "cxrgan_fast/data/contrast.py": "data/test_preparation.py",
    "cxrgan_fast/data/decoding.py": "data/test_readers.py",
    "cxrgan_fast/data/fit.py": "data/test_preparation.py",
    # One packed set: written by prepare, kept, read by a dataset.
    "cxrgan_fast/data/packed.py": "data/test_prepare.py",
    "cxrgan_fast/data/reading.py": "data/test_dataset.py",
    "cxrgan_fast/data/set_description.py": "data/test_prepare.py",
    "cxrgan_fast/data/duplicates.py": "data/test_inspection.py",
    "cxrgan_fast/data/class_folders.py": "sampling/test_class_folders.py",
    "cxrgan_fast/data/all_bits.py": "data/test_tone_cards.py",
    "cxrgan_fast/data/opening.py": "data/test_memory.py",
    "cxrgan_fast/data/unfinished.py": "data/test_prepare.py",
    # What studies share, seen from them.
    "cxrgan_fast/evaluation/judge.py": "research/test_compare_settings.py",
    "cxrgan_fast/processes.py": "runs/test_lock.py",
    "cxrgan_fast/runs/description.py": "research/test_compare_settings.py",
    "cxrgan_fast/settings/given_flags.py": "research/test_compare_settings.py",
    "cxrgan_fast/training/child.py": "studies/test_worker_kills.py",
    # One sweep: asked through its command.
    "cxrgan_fast/studies/folder.py": "studies/test_sweep.py",
    "cxrgan_fast/studies/library.py": "studies/test_sweep.py",
    "cxrgan_fast/studies/measurements.py": "studies/test_sweep.py",
    "cxrgan_fast/studies/parameters.py": "studies/test_space.py",
    "cxrgan_fast/studies/request.py": "studies/test_sweep.py",
    "cxrgan_fast/studies/show.py": "studies/test_sweep.py",
    "cxrgan_fast/studies/trial.py": "studies/test_sweep.py",
    # What a command does as a whole, asked through the command.
    "cxrgan_fast/arguments.py": "test_odd_arguments.py",
    "cxrgan_fast/devices.py": "settings/test_config.py",
    "cxrgan_fast/plain_numbers.py": "test_odd_arguments.py",
    "cxrgan_fast/metrics/kept.py": "metrics/test_cache.py",
    "cxrgan_fast/evaluation/checkpoints.py": "evaluation/test_evaluate_command.py",
    "cxrgan_fast/evaluation/findings.py": "evaluation/test_evaluator.py",
    "cxrgan_fast/evaluation/generator_now.py": "evaluation/test_periodic.py",
    "cxrgan_fast/evaluation/image_folder.py": "sampling/test_class_folders.py",
    "cxrgan_fast/evaluation/notes.py": "evaluation/test_evaluator.py",
    "cxrgan_fast/evaluation/image_sets.py": "evaluation/test_evaluate_command.py",
    "cxrgan_fast/evaluation/report.py": "evaluation/test_evaluator.py",
    "cxrgan_fast/evaluation/request.py": "evaluation/test_evaluate_refusals.py",
    "cxrgan_fast/evaluation/sides.py": "evaluation/test_evaluate_command.py",
    "cxrgan_fast/runs/calls.py": "training/test_start.py",
    "cxrgan_fast/runs/generators.py": "sampling/test_class_sources.py",
    "cxrgan_fast/settings/checks.py": "settings/test_config.py",
    "cxrgan_fast/flags.py": "settings/test_settings.py",
    "cxrgan_fast/settings/game.py": "settings/test_settings.py",
    "cxrgan_fast/settings/names.py": "settings/test_advice.py",
    "cxrgan_fast/training/loop.py": "training/test_train_command.py",
    "cxrgan_fast/training/restoring.py": "training/test_edited_runs.py",
    "cxrgan_fast/training/run.py": "training/test_background_saving.py",
    "cxrgan_fast/training/signals.py": "training/test_train_interruptions.py",
    # A step and its parts, which only a step has a use for.
    "cxrgan_fast/gan/adversarial.py": "training/test_step.py",
    "cxrgan_fast/gan/draws.py": "training/test_step.py",
    "cxrgan_fast/training/meters.py": "training/test_step.py",
    "cxrgan_fast/training/optimizers.py": "training/test_step.py",
    "cxrgan_fast/nn/family.py": "nn/test_config.py",
    # One evaluation, and the extractors that it is made with.
    "cxrgan_fast/metrics/cxr.py": "metrics/test_embedded.py",
    "cxrgan_fast/metrics/cxr_blocks.py": "metrics/test_embedded.py",
    "cxrgan_fast/metrics/cxr_network.py": "metrics/test_embedded.py",
    "cxrgan_fast/metrics/cxr_ssl.py": "metrics/test_embedded.py",
    "cxrgan_fast/metrics/cxr_ssl_network.py": "metrics/test_embedded.py",
    "cxrgan_fast/metrics/backbones.py": "metrics/test_dinov2.py",
    "cxrgan_fast/metrics/custom.py": "metrics/test_extractor.py",
    "cxrgan_fast/metrics/libraries.py": "metrics/test_extractor.py",
    "cxrgan_fast/metrics/pixels.py": "metrics/test_extractor.py",
    "cxrgan_fast/metrics/registry.py": "metrics/test_extractor.py",
    # Names from before.
    "cxrgan_fast/metrics/memorisation.py": "metrics/test_old_names.py",
    "cxrgan_fast/metrics/nearest_neighbour.py": "metrics/test_old_names.py",
    "cxrgan_fast/metrics/neighbours.py": "metrics/test_old_names.py",
    # Every network is put to the same questions.
    "cxrgan_fast/nn/families/dcgan.py": "nn/test_networks.py",
    "cxrgan_fast/nn/labels.py": "nn/test_conditional_batch_norm.py",
    "cxrgan_fast/nn/layers.py": "nn/test_spectral_norm.py",
    "cxrgan_fast/nn/families/resnet.py": "nn/test_networks.py",
    "cxrgan_fast/nn/families/r3.py": "nn/test_networks.py",
    # Of every op's messages, and of every command's.
    "cxrgan_fast/ops/checks.py": "ops/test_conditional_batch_norm.py",
    "cxrgan_fast/errors.py": "test_command.py",
    # The figures of a report, drawn of one record.
    "cxrgan_fast/studies/figures.py": "studies/test_sweep_report.py",
    "cxrgan_fast/studies/parameter_figures.py": "studies/test_sweep_report.py",
    "cxrgan_fast/studies/progress_figure.py": "studies/test_sweep_report.py",
    # What stands at a field, seen from every setting.
    "cxrgan_fast/setting.py": "settings/test_settings.py",
}


def found_by_name(module: str) -> list[Path]:
    """The tests that are named after a module, or else after what it is a part of.

    ``data/dicom_values.py`` is a part of ``data/dicom.py``, and ``data/phantom/film.py`` one of
    the package ``data/phantom``: each is private to the other and tested through it.
    """
    parts = Path(module).with_suffix("").parts
    if parts[0] == "kernels":
        room, owners = "kernels", ["kernels"]
    elif len(parts) == 2:  # a command, tested in the room that does its work
        room, owners = "[!b]*", []
    else:
        room, owners = parts[1], list(parts[2:-1])
    words = parts[-1].split("_")
    names = ["_".join(words[:count]) for count in range(len(words) - 1, 0, -1)]
    owners += [name for name in names if (ROOT / module).with_name(f"{name}.py").exists()]
    tests = sorted((ROOT / "tests").glob(f"{room}/test_*.py"))
    if len(parts) == 2:
        tests += sorted((ROOT / "tests").glob("test_*.py"))
    for name in [parts[-1], *owners]:
        if found := [test for test in tests if re.fullmatch(rf"test_{name}(_\w+)?", test.stem)]:
            return found
    return []


def test_every_module_has_a_test_of_its_name() -> None:
    assert len(MODULES) > 50
    without = [module for module in MODULES if not found_by_name(module)]
    missing = sorted(set(without) - set(ELSEWHERE))
    assert not missing, (
        f"no test is named after {', '.join(missing)}: tests/ROOM/test_MODULE.py, or a line in "
        "ELSEWHERE of tests/test_names.py that says which test it is part of"
    )


@pytest.mark.parametrize("module", ELSEWHERE)
def test_an_exception_is_needed_and_leads_to_a_test(module: str) -> None:
    assert module in MODULES, f"there is no {module} any more: take it out of ELSEWHERE"
    assert not found_by_name(module), f"{module} has a test of its name: take it out of ELSEWHERE"
    assert (ROOT / "tests" / ELSEWHERE[module]).is_file(), f"there is no {ELSEWHERE[module]}"
