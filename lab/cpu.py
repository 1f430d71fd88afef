"""The processor of this machine, as Linux describes it."""


def description():
    """The entries of the first processor in /proc/cpuinfo, {name: text}; {} on systems that have no such file."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            first = file.read().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): text.strip() for name, _, text in pairs}
