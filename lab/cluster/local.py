"""Workers on this machine: one process for each GPU, or for each group of cores that share a cache."""

import contextlib
import os
from pathlib import Path

from lab import cpu, files


@contextlib.contextmanager
def cluster():
    """A context manager that starts a scheduler and the workers, which only this process can use.

    Yields the scheduler's address, "tls://127.0.0.1:PORT", and the Security, with certificates made for this run.
    """
    from distributed import Nanny, Scheduler, Security, SpecCluster

    security = Security.temporary()
    common = {"host": "127.0.0.1", "protocol": "tls://", "security": security, "dashboard": False,
              "dashboard_address": "127.0.0.1:0"}  # a page that tells that the process is alive is served all the same
    scheduler = {"cls": Scheduler, "options": common | {"port": 0}}
    common |= {"silence_logs": 50, "memory_limit": 0}  # none: a share of the memory may be too little
    here = f"import os; os.chdir({str(files.HERE)!r})"  # where examination.py looks for the lab
    workers = {number: {"cls": Nanny, "options": common | options | {"preload": [here, *options.get("preload", [])]}}
               for number, options in enumerate(_workers())}
    with SpecCluster(workers=workers, scheduler=scheduler, security=security, silence_logs=50) as spec:
        yield spec.scheduler_address, security


def _workers():
    """The options of each worker, a list of dicts."""
    import tensorflow.compat.v1 as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(number) for number in range(len(gpus))]
        return [{"nthreads": max(1, cpu.cores() // len(gpus)), "env": {"CUDA_VISIBLE_DEVICES": name}} for name in names]
    groups = core_groups()
    if len(groups) == 1:
        return [{"nthreads": min(cpu.cores(), len(groups[0]))}]
    return [{"nthreads": len(group), "preload": [f"import os; os.sched_setaffinity(0, {sorted(group)})"]} for group in groups]


def core_groups(root="/"):
    """The cores that this process may use, by the last cache that they share: a list of sets of ints.

    One group where Linux does not tell, and where a cgroup limits this process to fewer cores than it is scheduled on. root:
    the folder that holds sys/.
    """
    if not hasattr(os, "sched_getaffinity"):
        return [set(range(cpu.affinity()))]
    usable, groups = os.sched_getaffinity(0), {}
    for core in sorted(usable):
        caches = sorted(Path(root, f"sys/devices/system/cpu/cpu{core}/cache").glob("index*/shared_cpu_list"))
        shared = caches[-1].read_text().strip() if caches else ""
        groups.setdefault(shared, set()).add(core)
    return list(groups.values()) if cpu.cores() == len(usable) else [usable]
