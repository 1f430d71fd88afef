"""What the checks of a student's functions need: sessions and an AlexNet that remember, inputs, and answers told apart."""

import functools
import inspect

import numpy as np
import tensorflow.compat.v1 as tf

import alexnet
from lab.network import weights as weight_files

CLASSES, WIDTH = 43, 4096


class Wrong(Exception):
    """What is wrong with a student's function, in one sentence."""


@functools.cache
def alexnet_weights():
    """Random weights of AlexNet's full size, whose fc7 is about as long (60) as with trained weights."""
    numbers = np.random.default_rng(0).standard_normal(1_000_003, np.float32)  # repeated: fresh ones would take a second
    weights = {}
    for layer, shape in weight_files.SHAPES.items():
        scale = np.sqrt(2 / np.prod(shape[:-1])) / (80 if layer == "fc7" else 1)
        weights[layer] = np.resize(numbers * np.float32(scale), shape), np.zeros(shape[-1], np.float32)
    return weights


class WatchedSession(tf.Session):
    """A Session that remembers its runs: `runs` has (operations, results, fed arrays, graph version) of each."""

    runs = []
    at_exit = None  # a function that is called with the session before it closes

    def run(self, fetches, feed_dict=None, options=None, run_metadata=None):
        version = self.graph.version
        results = super().run(fetches, feed_dict, options, run_metadata)
        operations = [fetch for fetch in tf.nest.flatten(fetches) if isinstance(fetch, tf.Operation)]
        fed = [np.asarray(value) for value in (feed_dict or {}).values()]
        arrays = [result for result in tf.nest.flatten(results) if isinstance(result, np.ndarray)]
        self.runs.append((operations, arrays, fed, version))
        return results

    def __exit__(self, *arguments):
        if self.at_exit and arguments[0] is None:
            self.at_exit()
        return super().__exit__(*arguments)


class WatchedAlexNet:
    """Takes the place of alexnet.AlexNet: does the same, and `calls` has (features, output, weights) of each call."""

    def __init__(self):
        self.calls, self.original = [], alexnet.AlexNet

    def __call__(self, features, *arguments, **options):
        call = inspect.signature(self.original).bind(features, *arguments, **options).arguments
        output = self.original(features, *arguments, **options)
        self.calls.append((features, output, call.get("weights")))
        return output


def small_alexnet(features, feature_extract=False, weights=None, name="alexnet"):
    """In AlexNet's place where only main is looked at: one random product, [N, 1000] or [N, 4096]."""
    with tf.name_scope(name):
        pixels = tf.reshape(features[:, ::57, ::57], [-1, 48])
        W = tf.Variable(tf.random.normal([48, WIDTH if feature_extract else 1000], stddev=0.01))
        return tf.matmul(pixels, W) if feature_extract else tf.nn.softmax(tf.matmul(pixels, W))


def some_signs():
    """Two random signs, uint8 [2, 32, 32, 3]: one dark and one light, coloured, and lighter towards the bottom."""
    images = np.random.default_rng().integers(0, 256, (2, 32, 32, 3)) * [[[[1.0, 0.8, 0.5]]], [[[0.2, 0.3, 0.4]]]]
    return (images * np.linspace(0.2, 1, 32)[:, None, None]).astype(np.uint8)


def some_fc7(count):
    """Random features like fc7, float32 [count, 4096]: not negative, and about as long (40) as those of signs are."""
    return np.abs(0.6 * np.random.default_rng().standard_normal((count, WIDTH), np.float32))


def tensor(value, name, shape, dtype="float32"):
    """Raise Wrong unless `value`, what the student's `name` returned, is a tensor with `shape`, a list, None for unknown."""
    if value is None:
        raise Wrong(f"{name} returns nothing: does it lack its `return`?")
    if isinstance(value, (tuple, list)):
        raise Wrong(f"{name} returns {len(value)} things, but one tensor is wanted")
    if isinstance(value, np.ndarray):
        raise Wrong(f"{name} returns a NumPy array: it was computed outside the graph, where a tensor is wanted")
    if not isinstance(value, (tf.Tensor, tf.Variable)):
        raise Wrong(f"{name} returns an object of type {type(value).__name__}, but a tensor is wanted")
    if value.dtype.base_dtype.name != dtype:
        raise Wrong(f"{name} returns {value.dtype.base_dtype.name}, but {dtype} is wanted")
    if not value.shape.is_compatible_with(shape):
        if value.shape.rank == len(shape) and shape and shape[0] is None and value.shape.as_list()[1:] == shape[1:]:
            raise Wrong(f"{name} gives a fixed number of images, {value.shape[0]}, but any number can come")
        wanted = str(tf.TensorShape(shape)).replace("None", "N")
        raise Wrong(f"{name} returns the shape {str(value.shape).replace('None', 'N')}, but {wanted} is wanted")


def in_python(graph):
    """Raise Wrong if the graph calls Python, with tf.py_func or the like, elsewhere than for AlexNet's weights."""
    if any("PyFunc" in op.type and "alexnet" not in op.name for op in graph.get_operations()):
        raise Wrong("it is computed outside the graph, in Python (tf.py_func or tf.numpy_function): use TensorFlow's functions")


def close(a, b):
    """Whether two arrays are the same up to float32's rounding."""
    return np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-3, atol=2e-4 * max(1e-6, np.abs(b).max()))


def told_apart(value, right, name, candidates, otherwise):
    """Raise Wrong unless `value` is close to `right`: with the sentence of the first of `candidates`, (array, str), that is."""
    if close(value, right):
        return
    for candidate, sentence in candidates:
        if close(value, candidate):
            raise Wrong(sentence)
    if not np.isfinite(value).all():
        raise Wrong(f"{name} gives numbers that are not finite, NaN or infinite")
    raise Wrong(otherwise)


def cross_entropy(logits, labels):
    """The mean cross-entropy of logits [N, 43] for labels [N], in float64: an independent, slow form."""
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]))


def assembled(functions):
    """images, labels, fc7 and loss, tensors of the lab's training graph made of `functions`, {name: function}."""
    images = tf.placeholder(tf.uint8, [None, 32, 32, 3], name="images")
    labels = tf.placeholder(tf.int64, [None], name="labels")
    fc7 = functions["fc7_of"](images, alexnet_weights())
    return images, labels, fc7, functions["loss"](functions["new_layer"](fc7), labels)


def by_owner():
    """AlexNet's variables in the graph, and the trainable ones of the new layer."""
    alexnet_variables = [v for v in tf.global_variables() if "alexnet" in v.op.name]
    return alexnet_variables, [v for v in tf.trainable_variables() if "alexnet" not in v.op.name]
