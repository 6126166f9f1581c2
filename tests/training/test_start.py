"""What a run says and keeps when it starts: where, with what, how it was called."""

import json
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cxrgan_fast import __version__
from cxrgan_fast.errors import UserError
from cxrgan_fast.nn import NetworkConfig, build_discriminator, build_generator
from cxrgan_fast.ops import available_backends
from cxrgan_fast.provenance import commit
from cxrgan_fast.runs.calls import calls_path, last_call, record_call
from cxrgan_fast.runs.checkpoint import saved_steps
from cxrgan_fast.runs.folder import newest_run
from cxrgan_fast.settings.config_file import read_config_file
from cxrgan_fast.train import parse

PHANTOM = ["--device", "cpu", "--precision", "fp32", "--resolution", "32", "--base-channels", "8",
           "--latent-size", "8", "--batch-size", "4", "--phantom-images", "12"]  # fmt: skip


def only_run(root: Path) -> Path:
    (run,) = root.iterdir()
    return run


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_a_run_says_and_keeps_with_what_it_trains(train, tmp_path, monkeypatch):
    monkeypatch.setenv("CXRGAN_BACKEND", "reference")
    code, out, err = train(*PHANTOM, "--steps", 1, "--name", "first try", "--out", tmp_path)
    assert code == 0, err
    run = only_run(tmp_path)
    assert run.name == "00000-phantom-32-resnet-first_try"
    network = NetworkConfig(resolution=32, base_channels=8, latent_size=8)
    sizes = {"generator": parameters(build_generator(network, 2)),
             "discriminator": parameters(build_discriminator(network, 2))}  # fmt: skip
    said = out.splitlines()
    assert f"folder: {run}" in said
    assert any(
        line.startswith("device: cpu (") and line.endswith("), precision fp32, executor eager")
        for line in said
    )
    assert f"threads: {torch.get_num_threads()} (one core)" in said
    native = "native" if "cpu" in available_backends()["native"].runs_on else "reference"
    assert f"ops: {native}" in said
    assert (
        f"networks: generator {sizes['generator']:,} parameters, "
        f"discriminator {sizes['discriminator']:,} parameters"
    ) in said
    call = last_call(run)
    assert call["version"] == __version__
    assert call["commit"] == (None if commit() == "unknown" else commit())
    assert "--name 'first try'" in call["command"]
    assert call["parameters"] == sizes
    assert call["torch"] == torch.__version__
    assert call["backends"]["conditional_batch_norm_act"] == native
    assert "auto" not in call["settings"].values()
    assert call["settings"]["batch_size"] == 4
    assert call["settings"]["executor"] == "eager"


def test_every_call_of_a_run_is_kept(train, tmp_path):
    assert train(*PHANTOM, "--steps", 1, "--out", tmp_path)[0] == 0
    run = only_run(tmp_path)
    with calls_path(run).open("a") as file:
        file.write('{"step": 1, "cut o')  # by kill -9
    assert train("--resume", run, "--steps", 2)[0] == 0
    first, cut, second = calls_path(run).read_text().splitlines()
    assert json.loads(first)["step"] == 0
    assert json.loads(second)["step"] == 1
    assert "--resume" in json.loads(second)["command"]
    assert last_call(run) == json.loads(second)
    calls_path(run).write_text(first + "\n" + cut)
    assert last_call(run) == json.loads(first)


def test_a_run_without_calls_has_none(tmp_path):
    assert last_call(tmp_path) is None
    calls_path(tmp_path).write_bytes(b"\xff\n")
    assert last_call(tmp_path) is None
    deep = '{"a": ' * 400 + "5" + "}" * 400  # it would be copied into evaluation.json
    for text in ("[]\n3\n", "[" * 10**5, deep, '{"a": [[5]]}', '{"a": ' + "9" * 5000 + "}"):
        calls_path(tmp_path).write_text(text)
        assert last_call(tmp_path) is None


def test_a_link_in_the_place_of_the_calls_is_not_written_through(tmp_path):
    mine = tmp_path / "mine"
    mine.write_text('{"step": 5}')
    (tmp_path / "run").mkdir()
    calls_path(tmp_path / "run").symlink_to(mine)
    record_call(tmp_path / "run", {"step": 6})
    assert mine.read_text() == '{"step": 5}'
    assert last_call(tmp_path / "run") == {"step": 6}


def test_a_call_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"cannot write .*calls\.jsonl: "):
        record_call(tmp_path / "nowhere", {})


def test_tensorboard_has_groups_and_hyperparameters(train, tmp_path):
    options = ["--steps", 2, "--log-every", 1, "--augment", "cutout", "--out", tmp_path]
    assert train(*PHANTOM, *options)[0] == 0
    events = EventAccumulator(str(only_run(tmp_path)))
    events.Reload()
    assert set(events.Tags()["scalars"]) >= {
        "loss/d_loss", "loss/g_loss", "accuracy/d_real_accuracy", "speed/images_per_second",
        "speed/threads", "progress/images", "schedule/noise_std",
    }  # fmt: skip
    assert [event.step for event in events.Scalars("loss/g_loss")] == [1, 2]
    (begun,) = (
        content
        for tag, content in events.summary_metadata.items()
        if tag == "_hparams_/session_start_info"
    )
    for value in (b"batch_size", b"cutout", b"g_lr"):
        assert value in begun.plugin_data.content


def test_an_evaluation_names_its_own_call_and_the_trainings(train, evaluate, tmp_path):
    assert train(*PHANTOM, "--steps", 1, "--out", tmp_path / "runs")[0] == 0
    run = only_run(tmp_path / "runs")
    code, _, err = evaluate(run, "--features", "pixels", "--metrics", "fid", "--samples", 6)
    assert code == 0, err
    record = json.loads((run / "evaluation" / "evaluation.json").read_text())
    assert record["evaluated_with"]["version"] == __version__
    assert record["evaluated_with"]["device_name"]
    assert record["evaluated_with"]["settings"]["samples"] == 6
    assert record["trained_with"] == {run.name: last_call(run)}
    out = tmp_path / "of_a_file"
    file = next((run / "checkpoints").glob("generator-*"))
    more = ["--features", "pixels", "--metrics", "fid", "--samples", 6, "--data", "phantom"]
    code, _, err = evaluate(file, *more, "--out", out)
    assert code == 0, err
    record = json.loads((out / "evaluation.json").read_text())
    assert record["trained_with"] == {run.name: last_call(run)}


@pytest.mark.parametrize("name", ["..", "///", "-"])
def test_a_name_of_which_nothing_is_left_is_refused(fails, tmp_path, name):
    assert f"--name {name!r}: expected" in fails(*PHANTOM, f"--name={name}", "--out", tmp_path)


def test_names_stay_within_the_folder(train, tmp_path):
    out = tmp_path / "runs"
    assert train(*PHANTOM, "--steps", 1, "--name", "../x", "--out", out)[0] == 0
    assert only_run(out).name == "00000-phantom-32-resnet-x"
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def runs(root: Path, *names: str, begun: str = "") -> None:
    for name in names:
        (root / name / "checkpoints").mkdir(parents=True)
        if name in begun.split():
            (root / name / "checkpoints" / "step-00000001.pt").touch()


def test_the_newest_run_is_found_by_number_name_and_checkpoint(tmp_path):
    names = ["00009-a-32-resnet-x", "00010-a-32-resnet", "100000-a-32-resnet-x", "00011-a-32-dcgan"]
    runs(tmp_path, *names, begun="00009-a-32-resnet-x 00010-a-32-resnet")
    (tmp_path / "200000-a-32-resnet").touch()  # no folder
    (tmp_path / "notes").mkdir()
    assert newest_run(tmp_path).name == "100000-a-32-resnet-x"
    assert newest_run(tmp_path, begun=True).name == "00010-a-32-resnet"
    assert newest_run(tmp_path, "x", begun=True).name == "00009-a-32-resnet-x"
    assert newest_run(tmp_path, "y") is None
    assert newest_run(tmp_path / "nowhere") is None
    (tmp_path / "100000-a-32-resnet-x" / "ill" / "checkpoints").mkdir(parents=True)
    (tmp_path / "100000-a-32-resnet-x" / "ill" / "checkpoints" / "step-00000001.pt").touch()
    assert newest_run(tmp_path, begun=True).name == "100000-a-32-resnet-x"  # --per-class


def test_resume_auto_begins_and_goes_on_with_the_same_command(train, tmp_path):
    """As a batch queue starts it again and again."""
    command = [*PHANTOM, "--steps", 2, "--name", "queue", "--resume", "auto", "--out", tmp_path]
    code, out, err = train(*command)
    assert code == 0, err
    assert f"--resume auto: no run of --name queue in {tmp_path} to go on with" in out
    run = only_run(tmp_path)
    assert run.name.endswith("-queue")
    command[command.index("--steps") + 1] = 3
    code, out, err = train(*command)
    assert code == 0, err
    assert f"--resume auto: {run}" in out
    assert only_run(tmp_path) == run
    assert saved_steps(run)[-1] == 3
    runs(tmp_path, "00001-phantom-32-resnet-queue")  # killed before its first checkpoint
    code, out, err = train(*command)
    assert code == 0, err
    assert sorted(path.name for path in tmp_path.iterdir())[-1] == "00002-phantom-32-resnet-queue"


def test_an_auto_that_is_asked_for_again_stays_what_it_became(train, fails, tmp_path):
    autos = ["--precision", "auto", "--r1-gamma", "auto"]
    command = [*PHANTOM, *autos, "--resume", "auto", "--out", tmp_path]
    assert train(*command, "--steps", 1)[0] == 0
    config = only_run(tmp_path) / "config.yaml"
    before = config.read_text()
    code, _, err = train(*command, "--steps", 2)
    assert code == 0, err
    assert config.read_text() == before.replace("steps: 1\n", "steps: 2\n", 1)
    kept = read_config_file(config)
    assert kept["precision"] in ("fp32", "bf16")
    assert kept["r1_gamma"] == 0.0512
    line = fails(*command, "--r1-gamma", 2, "--steps", 3)
    assert "--r1-gamma 2.0 (config.yaml has 0.0512)" in line


def test_resume_last_takes_the_newest_that_has_a_checkpoint(train, fails, tmp_path):
    line = fails("--resume", "last", "--out", tmp_path)
    assert f"--resume last: {tmp_path} has no run with a checkpoint" in line
    assert train(*PHANTOM, "--steps", 1, "--out", tmp_path)[0] == 0
    run = only_run(tmp_path)
    runs(tmp_path, "00001-phantom-32-resnet")
    code, out, err = train("--resume", "last", "--out", tmp_path, "--steps", 2)
    assert code == 0, err
    assert f"--resume last: {run}" in out
    assert saved_steps(run)[-1] == 2


def test_the_run_found_keeps_its_settings_and_others_are_refused(train, fails, tmp_path):
    assert train(*PHANTOM, "--steps", 1, "--out", tmp_path)[0] == 0
    line = fails("--resume", "last", "--out", tmp_path, "--batch-size", 8)
    assert "--batch-size 8 (config.yaml has 4)" in line
    config, resume = parse(["--resume", "last", "--out", str(tmp_path)])
    assert resume == only_run(tmp_path)
    assert (config.batch_size, config.output.out) == (4, tmp_path)


def test_a_folder_called_last_is_reached_by_its_path(train, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train(*PHANTOM, "--steps", 1, "--out", "runs")[0] == 0
    only_run(tmp_path / "runs").rename(tmp_path / "last")
    assert train("--resume", "./last", "--steps", 2)[0] == 0
    assert saved_steps(tmp_path / "last")[-1] == 2


def test_the_command_is_told_as_it_was_typed(monkeypatch):
    from cxrgan_fast.provenance import command_line

    monkeypatch.setattr(sys, "argv", ["/somewhere/pytest", "--data", "my data"])
    assert command_line().endswith("--data 'my data'")
