"""What a worker must have, and what it has.

Dask sends the functions of this module themselves, not their names (`workers.py` says so to it): on a worker that lacks the
lab, or has another version of it, they must run all the same. So they import what they need, and nothing of the lab.
"""


def versions(folder):
    """What must be the same on the client and a worker, {name: str}, with the lab in `folder` (str or Path).

    The lab's version is a digest of its Python files below lab/, "none" if there are none.
    """
    import hashlib
    import importlib.metadata
    import platform
    from pathlib import Path

    found = {"the lab": "none", "Python": ".".join(platform.python_version_tuple()[:2])}
    paths = sorted(Path(folder).glob("lab/**/*.py"))
    if paths:
        digest = hashlib.sha256()
        for path in paths:
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
        found["the lab"] = digest.hexdigest()[:12]
    for package in ("tensorflow", "numpy", "Pillow", "distributed"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "none"
    return found


def examine(needed, memory):
    """Look at the worker that runs this, and let it import the lab from its working directory.

    needed: `versions` of the client. memory: int, bytes that the network takes.

    Returns what the worker lacks, a list of str, empty if it can be used.
    """
    import os
    import sys

    from distributed import get_worker

    folder = os.getcwd()
    found, lacks = versions(folder), []
    if found["the lab"] == "none":
        lacks.append(f"the lab, of which there is no clone in its working directory {folder}")
    for name, version in needed.items():
        if found[name] not in (version, "none"):
            lacks.append(f"{name} {version} (it has {found[name]})")
        elif found[name] != version and name != "the lab":
            lacks.append(f"{name} {version}")
    limit = get_worker().memory_manager.memory_limit
    if limit is not None and limit < memory:
        lacks.append(f"memory: its limit is {limit / 1e6:,.0f} MB, and the network takes {memory / 1e6:,.0f} MB (start it "
                     "with a larger --memory-limit)")
    if not lacks and folder not in sys.path:
        sys.path.insert(0, folder)  # `dask worker` does not look there
    return lacks
