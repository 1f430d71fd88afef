"""What the lab says of GPUs, tried without one: TensorFlow's own lists are replaced."""

from types import SimpleNamespace

import pytest
import tensorflow.compat.v1 as tf

from lab.network import devices


@pytest.fixture
def tf32(monkeypatch):
    """A list of what TF32 was set to."""
    switched = []
    monkeypatch.setattr(tf.config.experimental, "enable_tensor_float_32_execution", switched.append)
    return switched


def test_a_gpu_is_named_and_computes_in_float32_proper(monkeypatch, capsys, tf32):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [SimpleNamespace(name="/physical_device:GPU:0")])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda device: {"device_name": "NVIDIA H100"})
    devices.announce()
    assert capsys.readouterr().err == "Computing on the GPU: NVIDIA H100.\n"
    assert tf32 == [False] and devices.kind()[2] == "NVIDIA H100"


@pytest.mark.parametrize("hidden, cuda, reason", [
    ("-1", True, "CUDA_VISIBLE_DEVICES hides it"),
    ("0", False, "built without CUDA"),
    ("0", True, "tensorflow[and-cuda]"),
])
def test_a_gpu_that_is_not_used_is_mentioned_with_the_reason(hidden, cuda, reason, monkeypatch, capsys, tf32):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(tf.test, "is_built_with_cuda", lambda: cuda)
    monkeypatch.setattr(devices.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    devices.announce()
    err = capsys.readouterr().err
    assert err.startswith("Computing on the CPU: there is a GPU") and reason in err and err.count("\n") == 1 and tf32 == []


def test_without_a_gpu_nothing_is_said(monkeypatch, capsys):
    monkeypatch.setattr(devices.shutil, "which", lambda name: None)
    monkeypatch.setattr(devices.os.path, "exists", lambda path: False)
    devices.announce()
    assert capsys.readouterr().err == ""
