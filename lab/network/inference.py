"""Runs images through a session in batches, and prints the most probable classes."""

import hashlib
import json

import numpy as np

from lab.progress import progress

BATCH = 128  # images at a time: on a CPU larger batches are no faster and take more memory


def run(session, output, inputs, features, description="Images", rows=None):
    """Feed `features`, or only its `rows`, to the tensor `inputs` in batches, and return the tensor `output` for all of them.

    features: an array [N, ...]. rows: int64 [M], indices into it. Returns an array [M, ...], or [N, ...] without `rows`.
    """
    count = len(features) if rows is None else len(rows)
    with progress(None, description, count) as shown:
        answers = None
        for start in range(0, count, BATCH):
            batch = slice(start, start + BATCH) if rows is None else rows[start:start + BATCH]
            answer = session.run(output, {inputs: features[batch]})
            if answers is None:
                answers = np.empty((count, *answer.shape[1:]), answer.dtype)
            answers[start:start + len(answer)] = answer
            shown.update(len(answer))
    return answers


def each(run, batches):
    """Yield the number and the output of each of `batches`, which are filled up to BATCH for it.

    run: a function from an array [BATCH, ...] to its output, which is called on one batch after another; or the network on a
    cluster (lab.cluster.workers.Network), which has several at a time on its workers, and yields what is done first.
    batches: an iterator over arrays [N, ...], N <= BATCH, or what reads one when it is indexed, as by `batch[:]`.
    """
    if hasattr(run, "each"):
        yield from run.each(batches)
        return
    for number, batch in enumerate(batches):
        yield number, filled(run, batch[:])


def filled(run, features):
    """`run` of `features`, [N, ...], N <= BATCH, which are filled up with repeated ones: code compiled for one size serves."""
    return run(np.resize(features, (BATCH, *features.shape[1:])))[:len(features)]


def operations(output):
    """The operations that the tensor `output` depends on, its own first: a list of tf.Operation."""
    found = [output.op]
    for operation in found:
        before = [tensor.op for tensor in operation.inputs] + operation.control_inputs
        found += [new for new in dict.fromkeys(before) if new not in found]
    return found


def fingerprint(output, alexnet_weights, kind=None):
    """A fingerprint of what computes the tensor `output`, bit for bit: 64 hexadecimal digits.

    It covers the graph from the images to `output`, preprocessing included, `alexnet_weights`, the fingerprint in their
    weights.identity, NumPy, which multiplies the factors of the built-in weights, and TensorFlow and the processor: `kind`, by
    default this machine's devices.kind. It does not depend on the text of any source file.
    """
    from lab.network import devices  # not above: only this function needs TensorFlow

    nodes = [operation.node_def for operation in operations(output)]
    functions = {function.signature.name: function for function in output.graph.as_graph_def().library.function}
    for node in nodes:
        node.attr.pop("_gradient_op_type", None)  # of tf.custom_gradient, a number that differs from run to run
        if "f" in node.attr:  # a call of a tf.function, whose name has such a number too
            function = functions[node.attr["f"].func.name]
            function.signature.name = node.attr["f"].func.name = ""
            nodes.append(function)
    graph = [node.SerializeToString(deterministic=True).hex() for node in nodes]
    everything = [graph, alexnet_weights, np.__version__, kind or devices.kind()]
    return hashlib.sha256(json.dumps(everything).encode()).hexdigest()


def best(probabilities, class_names, top=5, threshold=0.0):
    """The `top` most probable classes of one photo, the most probable first: pairs of a class name and its probability.

    probabilities: float32 [len(class_names)]; equal ones rank in the order of the classes. threshold: float; if the most
    probable class has a lower probability, the only pair is "unknown" and that probability.
    """
    order = np.argsort(-probabilities, kind="stable")[:top]
    if probabilities[order[0]] < np.float32(threshold):
        return [("unknown", probabilities[order[0]])]
    return [(class_names[i], probabilities[i]) for i in order]


def print_top(probabilities, class_names, top=5, file_names=(), positions=None, threshold=0.0):
    """Print the `top` most probable of `class_names`, as `best` has them, for each row of `probabilities`.

    probabilities: float32 [N, len(class_names)]. positions: the images' numbers, N ints, by default from 0 on. file_names:
    found by these numbers; may be empty.
    """
    for i, row in zip(range(len(probabilities)) if positions is None else positions, probabilities):
        print("Image", i, *file_names[i:i + 1])
        for name, probability in best(row, class_names, top, threshold):
            print(f"{name}: {probability:.3f}")
        print()
