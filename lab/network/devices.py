"""The processors that TensorFlow computes on: which they are, and what depends on them."""

import os
import platform
import shutil

import tensorflow.compat.v1 as tf

from lab import cpu
from lab.files import notice


def gpu():
    """The name of the GPU that TensorFlow uses, the first one; None if it uses none."""
    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", gpus[0].name) if gpus else None


def onednn(precision="float32"):
    """Whether TensorFlow computes with oneDNN's kernels on an x86-64 CPU, where they are switched on.

    precision: "float32", or "bfloat16", for which oneDNN needs AVX-512.
    """
    # TensorFlow's public functions do not tell, and tests of its own ask here.
    from tensorflow.python.util import _pywrap_util_port

    fits = precision == "float32" or "avx512f" in cpu.flags()
    return fits and platform.machine() in ("x86_64", "AMD64") and not gpu() and _pywrap_util_port.IsMklEnabled()


def announce():
    """Say in one line on stderr which GPU is used, or why one that is there is not. Nothing where there is none.

    With a GPU, TF32 is switched off: it would round the inputs of matrix products to 10 bits, and the lab says float32.
    """
    if name := gpu():
        tf.config.experimental.enable_tensor_float_32_execution(False)
        notice(f"Computing on the GPU: {name}.")
    elif os.path.exists("/proc/driver/nvidia/version") or shutil.which("nvidia-smi"):
        if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
            reason = "CUDA_VISIBLE_DEVICES hides it"
        elif not tf.test.is_built_with_cuda():
            reason = "this TensorFlow was built without CUDA"
        else:
            reason = "CUDA's libraries are missing or of another version: pip install 'tensorflow[and-cuda]' brings them"
        notice(f"Computing on the CPU: there is a GPU, but TensorFlow cannot use it ({reason}).")


def kind():
    """What decides the last bits of a result, as a list of str: TensorFlow's version, oneDNN, and the processor's model."""
    return [tf.__version__, f"oneDNN {os.environ.get('TF_ENABLE_ONEDNN_OPTS', 'by default')}", gpu() or _cpu()]


def summary():
    """`kind` in a few words, a str, with the threads of an operation, on which the last bits of gradients depend."""
    version, onednn, processor = kind()
    if not gpu():
        processor = cpu.description().get("model name", processor)
    threads = int(os.environ.get("TF_NUM_INTRAOP_THREADS") or 0) or cpu.affinity()
    return f"TensorFlow {version}, {onednn}, {processor}, {threads} threads"


def _cpu():
    """The model of the CPU, with its features where Linux lists them: different machines may share a vague model name."""
    known = cpu.description()
    described = [f"{name}: {known[name]}" for name in ("model name", "model", "cpu family", "flags", "Features", "CPU part")
                 if name in known]
    return "; ".join(described) or f"{platform.machine()} {platform.processor()}"
