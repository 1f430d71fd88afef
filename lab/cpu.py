"""The processor of this machine, as Linux describes it, and how many of its cores this process may use."""

import math
import os
from pathlib import Path


def description():
    """The entries of the first processor in /proc/cpuinfo, {name: text}; {} on systems that have no such file."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            first = file.read().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): text.strip() for name, _, text in pairs}


def flags():
    """The CPU's features as Linux names them on x86, a set of str; empty where they are not known."""
    return set(description().get("flags", "").split())


def has_bfloat16():
    """Whether the CPU is known to have instructions for bfloat16."""
    return bool({"avx512_bf16", "amx_bf16"} & flags())


def affinity():
    """How many cores the operating system schedules this process on."""
    if hasattr(os, "sched_getaffinity"):  # Linux only
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores(root="/"):
    """How many cores this process may keep busy: `affinity`, or fewer where a cgroup limits its time, as for a container.

    root: the folder that holds proc/ and sys/. Limits: cpu.max in version 2 of cgroups, cpu.cfs_quota_us in version 1
    (https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/scheduler/sched-bwc.html); a part of a core
    counts as one.
    """
    return min([affinity(), *(max(1, math.ceil(limit)) for limit in _limits(Path(root)))])


def _limits(root):
    """Yield the limits of this process's cgroup and of those above it, in cores."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        lowest = mount / group.strip("/")  # in a container that does not see it, only the mount, which is its own, is there
        for folder in [lowest, *(above for above in lowest.parents if above.is_relative_to(mount))]:
            if controllers:
                limit = [_read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()]
            else:
                limit = _read(folder / "cpu.max").split()
            if len(limit) == 2 and all(part.isdigit() and int(part) for part in limit):  # no limit is "max" or -1
                yield int(limit[0]) / int(limit[1])


def _read(path):
    try:
        return path.read_text()
    except OSError:
        return ""
