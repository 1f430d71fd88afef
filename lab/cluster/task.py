"""What a worker does: it builds a network once, and takes batches of photos through it."""

import os
import sys
import threading
from typing import NamedTuple

import numpy as np

from lab import command_line, cpu, files
from lab.cluster import batches
from lab.cluster.batches import NotHere
from lab.files import BadInput
from lab.network import answers, inference, weights
from lab.network.inference import filled

_MOST = 2  # networks that a process keeps, the latest ones: a training's, and that of another client or another stage

_networks, _building, _running = {}, threading.Lock(), threading.Lock()


class Network(NamedTuple):
    """A network as it travels: a graph without weights, and what its variables hold.

    graph: bytes, a GraphDef. images, output: the names of two tensors in it. weights: AlexNet's, as weights.identity describes
    them. alexnet: the names of the variables that hold these, a list of str: not of those that finetuning has changed.
    """

    graph: bytes
    images: str
    output: str
    weights: dict
    alexnet: list


class Built(NamedTuple):
    run: object  # a function from photos to the output
    kind: list  # devices.kind
    summary: str  # devices.summary


class Answer(NamedTuple):
    """What a worker makes of a batch of N photos.

    output: array [M, ...], of the photos that can be used; None if there are none. positions: theirs in the batch, a list of M
    ints. refused: the BadInput of each other photo by its position, a dict. worker: str, its address.

    Of a shard `digest` is the SHA-256 of its file, and the output is empty, or one photo's, which is not finite: then nothing
    has been written. The positions of a file that was there already are None.
    """

    output: np.ndarray
    positions: list
    refused: dict
    worker: str
    digest: str = None


class Unprepared(Exception):
    """The worker with this address has no such network, because it has started again."""


class NoFolder(Exception):
    """The worker with this address does not reach the folder of the shards."""


class Failed(Exception):
    """A batch failed on a worker. The arguments are its address and why, in a few words."""


def prepare(key, network, *parts):
    """Build the Network `network` in this process, unless it has it already, under the name `key` (str).

    parts: what its variables hold, as (name, shape, start, float32 array [n]), the values from `start` on. If those in
    `network.alexnet` are not among them, they are those in a file here with the fingerprint in `network.weights`.

    Returns what computes here, devices.kind and devices.summary; None if AlexNet's weights are neither given nor here.
    Raises BadInput on a CPU that TensorFlow's packages cannot use.
    """
    with _building:
        if key not in _networks:
            values = {}
            for name, shape, start, part in parts:
                flat = values.setdefault(name, np.empty(shape, np.float32)).reshape(-1)
                flat[start:start + len(part)] = part
            if not values.keys() >= set(network.alexnet):
                alexnet_weights = _on_disk(network.weights)
                if alexnet_weights is None:
                    return None
                values = of_variables(alexnet_weights) | values
            while len(_networks) >= _MOST:
                _networks.pop(next(iter(_networks)))
            _networks[key] = _build(network, values)
        return _networks[key].kind, _networks[key].summary


def answer(key, forms, guarded, file, *pieces):
    """Take photos through the network `key`, batch by batch: an Answer.

    forms: what batches.to_send has made of each batch, with the number of its pieces, a list of pairs. guarded: as in
    batches.read. file: a batches.File for the output, which then does not travel; or None.

    Raises Unprepared, NoFolder, NotHere, BadInput as batches.read does, and Failed for whatever else goes wrong.
    """
    worker = _worker()
    network = _networks.get(key)
    if network is None:
        raise Unprepared(worker.address)
    try:
        if file and not _is_the_folder(file):
            raise NoFolder(worker.address)
        if file and file.digest and os.path.isfile(file.path) and files.sha256(file.path) == file.digest:
            return Answer(None, None, {}, worker.address, file.digest)
        outputs, positions, refused, names, pieces = [], [], {}, [], list(pieces)
        for form, count in forms:
            features, usable, unusable = batches.read(form, pieces[:count], worker.state.nthreads, guarded)
            del pieces[:count]
            if features is not None:
                fill = isinstance(form, batches.Pixels) or form.all_needed
                with _running:  # one at a time has all threads, and the memory
                    outputs.append(filled(network.run, features) if fill else network.run(features))
            start = len(names)
            names += form.names if isinstance(form, batches.Files) else [None] * form.shape[0]
            positions += [start + position for position in usable]
            refused |= {start + position: error for position, error in unusable.items()}
        output = np.concatenate(outputs) if outputs else None
        if file is None:
            return Answer(output, positions, refused, worker.address)
        if output is not None and not np.isfinite(output).all():
            return Answer(output[~np.isfinite(output).reshape(len(output), -1).all(1)][:1], positions, refused, worker.address)
        _write(file, output, [names[position] for position in positions])
        return Answer(None, positions, refused, worker.address, files.sha256(file.path))
    except (NoFolder, NotHere, BadInput):
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else ""
        raise Failed(worker.address, f"{type(error).__name__}: {reason}") from None  # TensorFlow's errors cannot be pickled


def _is_the_folder(file):
    """Whether the folder of `file`, a batches.File, is the client's too."""
    try:
        with open(os.path.join(os.path.dirname(file.path), batches.MANIFEST), "rb") as manifest:
            return manifest.readline() == file.manifest
    except OSError:
        return False


def _write(file, output, names):
    """Write the `output` for the photos `names` to `file`, a batches.File. output: None if there are no photos."""
    with files.replacing(file.path) as written:
        if file.class_names is None:
            np.save(written, np.ascontiguousarray(output, file.dtype))
        else:
            rows = [(name, inference.best(probabilities, file.class_names, file.top, file.threshold))
                    for name, probabilities in zip(names, [] if output is None else output)]
            lines = answers.csv_lines(rows, min(file.top, len(file.class_names)), first=True)
            written.write(lines.encode("utf-8", "backslashreplace"))


def of_variables(alexnet_weights):
    """What AlexNet's variables hold, {name: float32 array}, of `alexnet_weights` as from weights.load."""
    values = {}
    for layer, (W, b) in alexnet_weights.items():
        values |= {f"alexnet/{layer}/weights": W, f"alexnet/{layer}/biases": b,
                   f"alexnet/{layer}/transposed_weights": W.T}  # fast_layers.transposed_fc's
    return values


def _worker():
    from distributed import get_worker  # an extra: only a worker is sure to have it

    return get_worker()


def _on_disk(identity):
    """AlexNet's weights with this identity, from a file of this machine; None if there is none."""
    try:
        path = weights.find_trained(identity)
        if path is None:
            return None
        found = weights.load(path)
        return found if weights.identity(path, found)["fingerprint"] == identity["fingerprint"] else None
    except BadInput:
        return None


def _build(network, values):
    if "tensorflow" not in sys.modules:
        threads = str(min(_worker().state.nthreads, cpu.cores()))
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", threads)
        os.environ.setdefault("TF_NUM_INTEROP_THREADS", threads)
    with command_line.quiet_import():
        import tensorflow.compat.v1 as tf

        from lab.network import devices

    devices.announce()
    graph_def = tf.GraphDef.FromString(network.graph)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        session = tf.Session(graph=graph)
        for node in graph_def.node:
            if node.op == "VarHandleOp":
                value = tf.placeholder(tf.float32, values[node.name].shape)
                variable = graph.get_tensor_by_name(f"{node.name}:0")
                assign = tf.raw_ops.AssignVariableOp(resource=variable, value=tf.cast(value, node.attr["dtype"].type))
                session.run(assign, {value: values[node.name]})
        run = session.make_callable(network.output, [network.images])
    return Built(run, devices.kind(), devices.summary())
