"""Settings: their layers, their files and what is refused."""

import os
from pathlib import Path

import pytest
import torch

from cxrgan_fast.devices import resolve_device, resolve_precision
from cxrgan_fast.errors import UserError
from cxrgan_fast.settings.checks import changed_on_resume, check
from cxrgan_fast.settings.config import (
    PRESETS,
    TrainConfig,
    flatten,
    override,
    usual_preset,
    with_absolute_paths,
)
from cxrgan_fast.settings.config_file import read_config_file, write_config
from cxrgan_fast.train import parse


def file_with(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return path


def test_flat_names_are_unique():
    """Flags and file keys have no groups, so two groups may not use one name."""

    def names(config):
        return [
            n
            for name, value in vars(config).items()
            for n in (names(value) if hasattr(value, "__dataclass_fields__") else [name])
        ]

    assert len(names(TrainConfig())) == len(flatten(TrainConfig()))


def test_flags_go_before_the_file_and_the_file_before_the_preset(tmp_path):
    path = file_with(tmp_path, "base_channels: 48\nbatch_size: 8\nlatent_size: 17\n")
    argv = ["--device", "cpu", "--preset", "base", "--config", str(path), "--batch-size", "4"]
    config, resume = parse(argv)
    assert resume is None
    assert config.batch_size == 4  # flag
    assert config.network.base_channels == 48  # file
    assert config.network.latent_size == 17
    assert config.preset == "base"
    without_file, _ = parse(["--device", "cpu", "--preset", "base"])
    assert without_file.network.base_channels == PRESETS["base"]["base_channels"] == 64


@pytest.mark.parametrize(("bf16", "preset", "channels"), [(True, "small", 32), (False, "tiny", 16)])
def test_auto_preset_of_a_cpu_follows_what_it_has_instructions_for(
    monkeypatch, bf16, preset, channels
):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    config, _ = parse(["--device", "cpu"])
    assert (config.preset, config.network.base_channels) == (preset, channels)
    # What is asked for is asked for, and another precision leaves the networks as they are.
    assert parse(["--device", "cpu", "--preset", "small"])[0].network.base_channels == 32
    assert parse(["--device", "cpu", "--precision", "fp32"])[0].preset == preset


def test_auto_preset_of_a_gpu_is_base():
    assert usual_preset(torch.device("cuda")) == "base"


def test_file_groups_may_be_named_or_left_out(tmp_path):
    named = read_config_file(file_with(tmp_path, "network:\n  family: dcgan\nseed: 3\n"))
    flat = read_config_file(file_with(tmp_path, "family: dcgan\nseed: 3\n"))
    assert named == flat == {"family": "dcgan", "seed": 3}


def test_the_written_configuration_reads_back_whole(tmp_path):
    config = override(
        TrainConfig(),
        {"family": "dcgan", "augment": ("cutout",), "out": Path("elsewhere"), "g_lr": 1e-5},
    )
    path = file_with(tmp_path, write_config(config))
    assert override(TrainConfig(), read_config_file(path)) == config
    assert set(read_config_file(path)) == set(flatten(config))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batchsize: 4", r"unknown setting 'batchsize'; did you mean 'batch_size'\?"),
        ("network:\n  famly: dcgan", r"unknown setting 'famly'; did you mean 'family'\?"),
        ("qqqqqqq: 1", r"unknown setting 'qqqqqqq'; --help lists"),
        ("batch_size: many", "batch_size should be a whole number from 1 to 65536, got 'many'"),
        ("loss: hing", "loss should be one of .*, got 'hing'; did you mean 'hinge'"),
        ("augment: [cutout, rotate]", "augment should be .*, each once, got"),
        ("- 1\n- 2", "should hold lines like"),
        ("a: [1", "is not a YAML file"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as caught:
        read_config_file(file_with(tmp_path, text))
    assert "settings.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.yaml: No such file"):
        read_config_file(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "^batch_size should be a whole number from 1 to 65536, got 0"),
        ({"steps": -5}, "^steps should be a whole number of at least 1, got -5"),
        ({"l2": float("nan")}, "^l2 should be a number of at least 0, got nan"),
        ({"label_smoothing": 1.0}, "^label_smoothing should be a number of at least 0 and below 1"),
        ({"early_steps": 10}, "--early-steps does nothing without --loss minimax"),
        (
            {"label_smoothing": 0.1, "loss": "hinge"},
            "--label-smoothing does nothing without --loss minimax, .*, got --loss hinge",
        ),
        ({"augment": ("cutout", "cutout")}, "^augment should be .*, each once, got"),
        ({"momentum": 0.5}, "--momentum does nothing without --optimizer sgd"),
        ({"beta1": 0.5, "optimizer": "sgd"}, "--beta1 does nothing without --optimizer adam"),
        ({"beta2": 0.5, "optimizer": "sgd"}, "--beta2 does nothing with --optimizer sgd; leave"),
        ({"negative_slope": 0.1, "activation": "relu"}, "--negative-slope does nothing without"),
        ({"noise_decay_steps": 5}, "--noise-decay-steps does nothing without --noise-std"),
        (
            {"r1_interval": 5, "r1_gamma": 0.0},
            "--r1-interval does nothing without --r1-gamma or --r2-gamma, got --r1-gamma 0",
        ),
        (
            {"label_smoothing": 0.1, "loss": "relativistic"},
            "--label-smoothing does nothing without --loss .*, got --loss relativistic",
        ),
        (
            {"early_steps": 5, "loss": "relativistic"},
            "--early-steps does nothing without --loss minimax, got --loss relativistic",
        ),
        ({"reuse_real_logits": True}, "--reuse-real-logits does nothing without --loss relativ"),
        ({"ema_ramp": 0.5, "ema_half_life": 0.0}, "--ema-ramp does nothing without"),
        ({"phantom_images": 5, "data": "x"}, "--phantom-images does nothing without"),
        ({"skip_bad": True}, "--skip-bad does nothing with --data phantom; leave"),
        (
            {"class_balance": True, "per_class": True},
            "--class-balance does nothing with --per-class; leave",
        ),
        ({"resident_share": -0.1}, "^resident_share should be a number from 0 to 1, got -0.1"),
        ({"resident_share": 50.0}, "^resident_share should be a number from 0 to 1, got 50.0"),
        (
            {"resident_share": float("nan")},
            "^resident_share should be a number from 0 to 1, got nan",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(settings, message):
    with pytest.raises(UserError, match=message):
        check(override(TrainConfig(), settings))


def test_only_what_cannot_change_the_result_may_change_on_resume():
    stored, source = TrainConfig(), Path("run/config.yaml")
    harmless = {"steps": 10**6, "log_every": 7, "device": "cpu", "data": "moved"}
    harmless |= {"executor": "eager", "resident_share": 0.0}
    harmless |= {"eval_every": 50, "eval_samples": 9, "features": "inception"}
    harmless |= {"inception_weights": Path("weights.pth"), "features_weights": "download"}
    changed_on_resume(stored, override(stored, harmless), source)
    with pytest.raises(UserError, match=r"--batch-size 7 \(config.yaml has 32\), --d-lr 0\.5"):
        changed_on_resume(stored, override(stored, {"batch_size": 7, "d_lr": 0.5}), source)
    for name in ("mirror", "class_balance", "deterministic"):
        with pytest.raises(UserError, match=f"--{name.replace('_', '-')} True"):
            changed_on_resume(stored, override(stored, {name: True}), source)
    with pytest.raises(UserError, match="--out elsewhere"):
        changed_on_resume(stored, override(stored, {"out": Path("elsewhere")}), source)


def test_a_resumed_run_may_keep_settings_of_evaluations_that_it_does_without():
    kept = override(TrainConfig(), {"eval_samples": 500})
    check(kept, resumed=True)
    check(override(kept, {"eval_every": 10}))
    with pytest.raises(UserError, match=r"^--eval-samples does nothing without --eval-every"):
        check(kept)


def test_a_device_that_is_not_here_is_refused():
    with pytest.raises(UserError, match=r"--device cuda:97 cannot be used here"):
        resolve_device("cuda:97")
    with pytest.raises(UserError, match="--device gpu cannot be used here"):
        resolve_device("gpu")


@pytest.mark.parametrize(
    ("amx", "avx512", "precision"),
    [(True, True, "bf16"), (False, True, "bf16"), (False, False, "fp32")],
)
def test_auto_precision_is_bf16_where_the_processor_has_it(monkeypatch, amx, avx512, precision):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert resolve_precision("auto", torch.device("cpu")) == precision
    assert resolve_precision("fp32", torch.device("cpu")) == "fp32"


@pytest.mark.parametrize(
    ("capability", "precision"),
    [((7, 5), "fp16"), ((6, 1), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")],
)
def test_auto_precision_of_a_gpu_follows_its_capability(monkeypatch, capability, precision):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert resolve_precision("auto", torch.device("cuda")) == precision


@pytest.mark.parametrize(
    ("given", "kept"), [("w", os.path.abspath("w")), ("download", "download"), (None, None)]
)
def test_a_run_keeps_where_weights_lie_whatever_folder_it_goes_on_in(given, kept):
    config = with_absolute_paths(override(TrainConfig(), {"features_weights": given}))
    assert config.evaluation.features_weights == kept
