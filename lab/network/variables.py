"""Arrays as variables of a graph, without a copy of them in the graph."""

import numpy as np
import tensorflow.compat.v1 as tf

from lab.network.weights import SHAPES, aligned_empty


def variable(name, array, dtype):
    """A variable of `dtype`, float32 or bfloat16, that the initializer sets to a copy of the float32 `array`.

    A Python function hands the copy over when the initializer runs: a constant would swell the GraphDef, to 233 MB for AlexNet.
    """
    def initial_value(dtype=dtype, copy=_copy):
        dtype = tf.as_dtype(dtype)
        with tf.device("/cpu:0"):  # where Python is
            value = tf.numpy_function(lambda: copy(array, np.dtype(dtype.as_numpy_dtype)), [], dtype)
        return tf.ensure_shape(value, array.shape)

    return tf.Variable(initial_value, shape=array.shape, dtype=dtype, name=name, use_resource=True)


def _copy(array, dtype):
    """A copy of `array`, of `dtype`, that TensorFlow takes as it is, since it is aligned.

    NumPy asks Linux for large pages for it, which TensorFlow does not: one photo, whose time is that of reading the weights,
    takes 5% less.
    """
    copy = aligned_empty(array.shape, dtype)
    copy[...] = array
    return copy


def shared():
    """A scope in which `variable` gives the memory of aligned float32 arrays to float32 variables, uncopied.

    It is for graphs in which nothing is trained: training would change the arrays.
    """
    def uncopied(array, dtype):
        same = array.dtype == dtype and array.flags.c_contiguous and array.ctypes.data % 64 == 0
        return array if same else _copy(array, dtype)

    def create(next_creator, **arguments):
        initial_value = arguments["initial_value"]
        if callable(initial_value):
            arguments["initial_value"] = lambda: initial_value(copy=uncopied)
        return next_creator(**arguments)

    return tf.variable_creator_scope(create)


def without_python():
    """A scope in which `variable` makes variables that start as zeros: for graphs that run where there is no Python."""
    def create(next_creator, **arguments):
        if callable(arguments["initial_value"]):
            arguments["initial_value"] = tf.zeros(arguments["shape"], arguments["dtype"])
        return next_creator(**arguments)

    return tf.variable_creator_scope(create)


def in_float32():
    """A scope in which `variable` makes float32 variables and returns them as tensors of the dtype asked for: for training.

    Adam's steps are often smaller than the distance to the next bfloat16 number, 1/256 of the weight.
    """
    def create(next_creator, **arguments):
        dtype, initial_value = arguments["dtype"], arguments["initial_value"]
        if dtype is None or tf.as_dtype(dtype) != tf.bfloat16:
            return next_creator(**arguments)
        arguments |= {"dtype": tf.float32, "initial_value": lambda: initial_value(tf.float32)}
        return tf.cast(next_creator(**arguments), dtype)

    return tf.variable_creator_scope(create)


def assign(session, variable, array):
    """Set `variable` to `array` in `session`, without a copy of the array in the graph. Raises ValueError for another shape."""
    session.run(variable.initializer, {variable.initial_value: array})


def of_alexnet(first="conv1"):
    """AlexNet's variables in the current graph from the layer `first` on, without an optimizer's slots for them."""
    layers = list(SHAPES)
    return [variable for layer in layers[layers.index(first):] for variable in tf.trainable_variables(f"alexnet/{layer}/")]


def changing(first=None):
    """The variables in the current graph that training changes, with the optimizer's slots for them.

    first: the first layer of AlexNet that is trained; None if all of AlexNet stays as it is.
    """
    trained = {variable.op.name for variable in of_alexnet(first)} if first else set()
    frozen = {variable.op.name for variable in of_alexnet()} - trained
    return [variable for variable in tf.global_variables() if variable.op.name not in frozen]
