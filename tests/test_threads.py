"""How many cores there are for a process: its affinity, and its control groups' quotas."""

import os
from pathlib import Path

import pytest
import torch

from cxrgan_fast import threads
from cxrgan_fast.threads import available_cores, default_threads, free_cores, limit_threads


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V1 = "4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n"


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1),  # a second would be stopped half of the time
        ("0::/\n", {"cpu.max": "20000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "1600000 100000\n"}, 8),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/of/the/host\n", {"cpu.max": "400000 100000\n"}, 4),
        ("0::/\n", {"cpu.max": "nonsense\n"}, 8),
        ("0::/\n", {"cpu.max": "100000 0\n"}, 8),
        ("0::/\n", {}, 8),
        (V1, {"cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "250000\n",
              "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n"}, 2),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "300000\n",
              "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 3),
        ("5:cpu:/x\n", {"cpu/x/cpu.cfs_quota_us": "-1\n", "cpu/x/cpu.cfs_period_us": "1\n"}, 8),
        (V1, {"cpu/docker/abc/cpu.cfs_quota_us": "50000\n",
              "cpu/docker/abc/cpu.cfs_period_us": "50000\n"}, 1),
        ("4:memory:/x\n", {"memory/cpu.max": "100000 100000"}, 8),  # another controller's
    ],
)  # fmt: skip
def test_quotas_of_both_versions_count(tmp_path, groups, files, cores):
    assert available_cores(machine(tmp_path, groups, files)) == cores


def test_without_proc_or_affinity_there_are_the_machines_cores(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert available_cores(tmp_path) == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores(tmp_path) == 1


def test_pytorchs_threads_are_held_within_the_quota(monkeypatch, set_threads):
    monkeypatch.setattr(threads, "available_cores", lambda: 1)
    set_threads(3)
    limit_threads()
    assert torch.get_num_threads() == 1


def test_a_number_that_the_user_has_chosen_is_kept(monkeypatch, set_threads):
    monkeypatch.setattr(threads, "available_cores", lambda: 2)
    set_threads(3)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert default_threads() == 3
    limit_threads()
    assert torch.get_num_threads() == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    set_threads(1)
    assert default_threads() == 1


def test_a_probe_says_what_a_thread_gets_and_leaves_the_number(set_threads):
    set_threads(2)
    assert 0 < free_cores(1) <= 1
    assert torch.get_num_threads() == 2
