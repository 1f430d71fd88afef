"""Which Dask scheduler `--cluster` names, and whether it may be used."""

import importlib.util
import ipaddress
import json
import os
from urllib.parse import urlsplit

from lab import files
from lab.files import BadInput, shorten

_LARGEST = 100_000  # bytes in a scheduler file: Dask's own has a few thousand


def find(cluster, trust_network=False):
    """The address of the scheduler that `cluster` names, "tls://HOST:PORT" or "tcp://HOST:PORT"; "local" stays "local".

    cluster: an address; a scheduler file, as `dask scheduler --scheduler-file` writes it; "dask" for the address in Dask's
        configuration (scheduler-address, or DASK_SCHEDULER_ADDRESS); or "local".
    trust_network: whether to accept a scheduler on the network that asks nobody for a certificate.

    Raises BadInput if Dask is not installed, for anything that is no such address, and for tcp:// to any host but this one
    without `trust_network`.
    """
    if importlib.util.find_spec("distributed") is None:
        raise BadInput("--cluster needs Dask, which is not installed here: run "
                       ".venv/bin/python -m pip install -r extras/cluster.txt")
    if cluster == "local":
        return cluster
    address, source = cluster, ""
    if cluster == "dask":
        import dask.config  # an extra, which is there only if it is asked for

        address, source = dask.config.get("scheduler-address", None), "Dask's configuration"
        if not address:
            raise BadInput("--cluster dask takes the address from Dask's configuration, which names none: set "
                           "DASK_SCHEDULER_ADDRESS, or give the address itself")
    elif os.path.isfile(cluster):
        address, source = _in_file(cluster), cluster
    address = str(address) if "://" in str(address) else f"tcp://{address}"
    named = f"{shorten(address)} (in {source})" if source else shorten(address)
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not (host and port) or parts.scheme not in ("tcp", "tls") or parts.path or parts.query or parts.username:
        raise BadInput(f"{named} is no address of a Dask scheduler: give tls://HOST:PORT, tcp://HOST:PORT, a scheduler file, "
                       "or local")
    if parts.scheme == "tcp" and not trust_network and not _is_loopback(host):
        raise BadInput(f"{named} is not encrypted and asks nobody for a certificate, and whoever reaches a Dask scheduler can "
                       "run code on its workers: use tls:// (docs/cluster.md), or --trust-network if only people you trust "
                       "are on that network")
    return address


def _in_file(path):
    try:
        with files.reading(path) as file:
            return json.loads(file.read(_LARGEST))["address"]
    except BadInput:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput(f"{path} is no scheduler file of Dask, which `dask scheduler --scheduler-file {path}` writes") from error


def _is_loopback(host):
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
