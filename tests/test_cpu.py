"""The scripts take the cores that they are given, and switch TensorFlow's faster kernels on where it does not."""

import contextlib
import io
import os

import pytest

from lab import command_line, cpu

LIMITS = [
    ({}, 8),
    ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
    ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
    ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "5000 100000\n"}, 1),
    ({"proc/self/cgroup": "0::/slice/scope\n", "sys/fs/cgroup/slice/cpu.max": "250000 100000\n",
      "sys/fs/cgroup/slice/scope/cpu.max": "max 100000\n"}, 3),
    ({"proc/self/cgroup": "0::/not/visible/here\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4),
    ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "3200000 100000\n"}, 8),
    ({"proc/self/cgroup": "9:name=systemd:/\n2:cpu,cpuacct:/docker/1\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000\n",
      "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 2),
    ({"proc/self/cgroup": "2:cpu:/\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
      "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 8),
]


@pytest.mark.parametrize("tree, cores", LIMITS)
def test_a_containers_limit_of_cores_is_respected(tree, cores, tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, "affinity", lambda: 8)
    for name, text in tree.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu.cores(tmp_path) == cores


@pytest.mark.parametrize("flags, set_by_user, expected", [
    ("avx avx2 fma", None, "1"),
    ("avx avx2 fma", "0", "0"),
    ("avx avx2 avx512f avx512_vnni", None, None),  # there TensorFlow does it itself, and kept features stay valid
    ("avx", None, None),
    ("", None, None),  # not Linux, or not x86
])
def test_onednn_is_switched_on_where_tensorflow_leaves_it_off_though_it_is_faster(flags, set_by_user, expected, monkeypatch):
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3"} | ({"TF_ENABLE_ONEDNN_OPTS": set_by_user} if set_by_user else {})
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(cpu, "description", lambda: {"flags": flags} if flags else {})
    monkeypatch.setattr(cpu, "cores", lambda: 2)
    monkeypatch.setattr(cpu, "affinity", lambda: 64)
    with contextlib.redirect_stderr(io.StringIO()), command_line.quiet_import():
        pass
    assert environment.get("TF_ENABLE_ONEDNN_OPTS") == expected
    assert environment["TF_NUM_INTRAOP_THREADS"] == environment["TF_NUM_INTEROP_THREADS"] == "2"
