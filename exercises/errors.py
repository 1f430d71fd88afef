"""What a student's exception means: Python's and TensorFlow's errors at the classic mistakes, in the lab's words."""

import difflib
import linecache
import re
import sys
import traceback
from pathlib import Path

from lab.files import BadInput

CANNOT_BE_READ, CANNOT_BE_LOADED = " cannot be read: ", " cannot be loaded: "

# A pattern in "check: TypeName: message", and what it means. The first that fits is told.
MEANINGS = [
    (r"^accuracy: .*(?:FailedPrecondition|uninitialized)",
     "this keeps variables of its own, as tf.metrics does, which have no value yet: compute it from logits and labels alone"),
    (r"^(?:resize|fc7_of|new_layer|loss|train_step|accuracy): .*(?:FailedPrecondition|must feed a value)",
     "is there a session.run or .eval() in this function? It builds its part of the graph; main runs it"),
    (r"^fc7_of: .*Incompatible shapes",
     "the mean has lost the axes over which it was taken: keepdims=True keeps them, as ones"),
    (r"^accuracy: .*Expected dimension in the range", "labels are class numbers, [N], not rows of scores, so "
     "tf.argmax makes no sense on them: compare them as they are"),
    (r"'size' must be a 1-D Tensor", "the size is one argument, a pair: (height, width)"),
    (r"Iterating over a symbolic", "a tensor of the graph has no values yet that a loop, PIL or NumPy could take: "
     "TensorFlow's functions take the whole batch at once"),
    (r"not available with Keras", "tf.layers does not work with this TensorFlow, and the lab does not use it: build the layer "
     "from tf.Variable and tf.matmul"),
    (r"\bkeras\b.*(?:cannot|can't|Only)|'Adam' object has no attribute 'minimize'",
     "this is Keras, which the lab does not use: it takes tf.Variable, tf.matmul and tf.train.AdamOptimizer"),
    (r"^(?:split|batches): .*None", "something is None here: np.random.shuffle works in place and returns None; "
     "np.random.permutation gives a new order"),
    (r"^evaluate: .*(?:FailedPrecondition|uninitialized|Could not find variable)",
     "this is a new session, without the trained variables: use the one you are given"),
    (r"Shape must be rank (\d) but is rank (\d)", "a tensor with {0} axes is wanted here, and this one has {1}"),
    (r"len is not well defined", "a tensor has no len, since the number of photos is only known when it is run: use "
     "tf.shape(tensor)[0]"),
    (r"'bool' object has no attribute", "in the graph, Python's == and != compare the tensors themselves, not their numbers: "
     "use tf.equal or tf.not_equal"),
    (r"Optimizer\.minimize\(\) missing 1 required positional argument: 'loss'",
     "create the optimizer first, by calling its class: tf.train.AdamOptimizer().minimize(loss)"),
    (r"^loss: .*`labels\.shape\.rank` must equal.*labels\.shape=\(None, 43\) .*logits\.shape=\(None,\)",
     "labels and logits are swapped: the order is labels, logits; name them: labels=labels, logits=logits"),
    (r"property 'trainable'", "whether a variable is trainable cannot be changed afterwards: tf.stop_gradient on fc7 freezes "
     "all that is before it"),
    (r"Value passed to parameter 'features' has DataType int64", "labels and logits are swapped: the order is labels, "
     "logits; name them: labels=labels, logits=logits"),
    (r"'input' has DataType bool", "TensorFlow takes no mean of truth values: tf.cast them to tf.float32 first"),
    (r"slice indices must be integers|'float' object cannot be interpreted as an integer",
     "a number of photos is a whole number: int(np.ceil(...))"),
    (r"No module named 'sklearn'", "scikit-learn is not installed here, and not needed: its rule is in the docstring of split"),
    (r"inhomogeneous", "each tensor is fed its own array: {{inputs[0]: ..., inputs[1]: ...}}"),
    (r"^evaluate: .*could not be broadcast", "session.run gives a list, and a list times a number is a longer list: "
     "np.multiply, or np.array around it, multiplies"),
    (r"fetch` = None|Fetch argument None", "what session.run is to run is None: does the function that made it lack its "
     "`return`?"),
    (r"not compatible with eager execution", "there is no graph here: build all inside `with tf.Graph().as_default():`"),
    (r"^(\w+): TypeError: \1\(\) (?:missing|takes)", "{0} is called with other arguments than it takes: its parameters are "
     "those of the exercise"),
    (r"module 'tensorflow' has no attribute '(?:placeholder|Session|global_variables_initializer|truncated_normal)'"
     r"|module '\S*tensorflow\.\S*image' has no attribute 'resize_images'|module 'tensorflow\S*' has no attribute 'train\b"
     r"|\S*v2\.train' has no attribute '\w*Optimizer'|_api\.v2\.\S+' has no attribute",
     "this is TensorFlow 2's interface, which lacks it; the lab's is imported as `import tensorflow.compat.v1 as tf`"),
    (r"features must have shape \[N, 227, 227, 3\], not \(.*?, (\d+), (\d+), 3\)",
     "the images are {0}x{1}, but AlexNet takes 227x227: resize them to (227, 227)"),
    (r"features must be float32 or bfloat16, not (\w+)",
     "AlexNet takes float32, but gets {0}: cast the images before anything is computed with them"),
    (r"Cannot convert a symbolic tf.Tensor|features must be a tensor, not ndarray|numpy\(\) is only available when eager"
     r"|'\w*Tensor' object has no attribute '(?:numpy|__array\w*)'",
     "NumPy cannot compute on a tensor of the graph, which has no value yet; do this in the graph, with TensorFlow's "
     "functions"),
    (r"'\w*Tensor' object does not support item assignment",
     "a tensor cannot be changed in place; build a new one from it (and the lab's images are RGB, whose channels stay as they "
     "are)"),
    (r"FailedPrecondition|uninitialized|Could not find variable",
     "a variable has no value yet: tf.global_variables_initializer() sets only the variables that exist when it is built, so "
     "build the new layer and the training step (Adam has variables of its own) before it, and run it once"),
    (r"must feed a value for placeholder tensor '(?:\S*/)?images'",
     "this step needs the images again although it is fed fc7: the gradient of the loss still flows through AlexNet, which is "
     "not frozen"),
    (r"must feed a value for placeholder", "a placeholder was not fed: feed fc7 and the labels, both"),
    (r"Cannot feed value of shape \(\d+.*\) for Tensor .*which has shape '?\(\d+",
     "the placeholder has a fixed batch size; make it None, since the last batch is shorter"),
    (r"Cannot feed value of shape (\(.*?\)) for Tensor .*which has shape '?(\(.*?\))",
     "what is fed has shape {0}, but the tensor {1}"),
    (r"No gradients provided for any variable|No variables to optimize",
     "no gradient reaches a variable: either tf.stop_gradient stands behind the new layer, or the loss does not depend on it"),
    (r"(?:labels|Tlabels).*(?:float|DataType)|Value passed to parameter 'labels' has DataType float",
     "the labels are class numbers, int64, not floats: the sparse cross-entropy takes them as they are"),
    (r"Rank mismatch.*labels|must have the same (?:shape|size).*labels|labels.*must.*1-dim|labels must be 1-D|"
     r"Shape mismatch.*(?:labels|logits)|logits and labels (?:must|should) (?:have the same|be)|Shapes? .*must have the same "
      "rank|"
     r"`labels\.shape",
     "labels and logits do not fit: the sparse cross-entropy takes class numbers [N], the dense one takes one-hot rows [N, "
     "43] (tf.one_hot)"),
    (r"^accuracy: .*(?:Incompatible shapes|Dimensions must be equal)",
     "an array of 43 meets one of N photos: tf.argmax is taken over the batch (axis 0) and not over the classes (axis 1)"),
    (r"Tensor conversion requested dtype (\w+) for Tensor with dtype (\w+)|type (\w+) that does not match type (\w+)",
     "two tensors of different dtypes meet, {0} and {1}: tf.cast one of them"),
    (r"type (\w+) of argument.*|dtype (?:mismatch|conflict)", "two tensors of different dtypes meet: tf.cast one of them"),
    (r"Matrix size-incompatible|Dimensions must be equal",
     "the shapes of two tensors do not fit together: [N, 4096] times [4096, 43], plus [43]"),
    (r"NameError: name 'np' is", "np is not imported here, and not needed: use TensorFlow's functions"),
    (r"NameError: name '(\w+)' is not defined", "the name {0} is not known here: is it misspelt, or not yet imported?"),
    (r"AttributeError: 'NoneType'|NoneType.*(?:iterable|unpack)|None values not supported|Cannot convert None to",
     "something is None here: does a function before it lack its `return`?"),
    (r"SystemExit", "the file ends the program: take exit() out"),
    (r"KeyboardInterrupt", "the file interrupts itself: take that out"),
]


INSTEAD = {"all": "tf.reduce_all", "any": "tf.reduce_any", "argmax": "tf.argmax(tensor, axis=1)", "astype":
           "tf.cast(tensor, tf.float32)", "clip": "tf.clip_by_value", "copy": "tf.identity", "dot": "tf.matmul", "max":
           "tf.reduce_max", "mean": "tf.reduce_mean", "min": "tf.reduce_min", "prod": "tf.reduce_prod", "ravel":
           "tf.reshape(tensor, [-1])", "flatten": "tf.reshape(tensor, [-1])", "repeat": "tf.repeat", "reshape":
           "tf.reshape(tensor, shape)", "size": "tf.size(tensor)", "std": "tf.math.reduce_std", "sum": "tf.reduce_sum",
           "squeeze": "tf.squeeze", "T": "tf.transpose", "transpose": "tf.transpose"}  # of arrays, and of tensors


def _unknown_name(text):
    """What to write instead of an attribute that a tensor or a module of TensorFlow 1 lacks; None for other errors."""
    if found := re.search(r"\b\w*Tensor'? object has no attribute '((?!numpy|__)\w+)'", text):
        name = found[1]
        return f"a tensor has no {name}" + (f": use {INSTEAD[name]}" if name in INSTEAD else "")
    if found := re.search(r"module '(\S*\bcompat\.v1((?:\.\w+)*))' has no attribute '(\w+)'", text):
        module, inside, name = found.groups()
        known = [other for other in dir(sys.modules.get(module)) if not other.startswith("_")]
        similar = difflib.get_close_matches(name, known, 1) or [other for other in known if other.startswith(name)]
        return f"tf{inside} has nothing called {name}" + (f" (did you mean {similar[0]}?)" if similar else "")
    return None


def explain(error, path, check=""):
    """One sentence (str) on an exception that was raised in, or below, the student's file `path`, with the line if known.

    check: the name of the check that ran it.
    """
    if isinstance(error, BadInput) and "is still open" in str(error):
        return str(error)
    if isinstance(error, SyntaxError) and error.filename:
        line = (error.text or "").strip()
        return f"{Path(error.filename).name}{CANNOT_BE_READ}line {error.lineno}, `{line}`: {error.msg}"
    text = f"{check}: {type(error).__name__}: {error}"
    meaning = _unknown_name(text) or next((sentence.format(*(group for group in found.groups() if group) or [""])
                    for pattern, sentence in MEANINGS if (found := re.search(pattern, text, re.DOTALL))), None)
    if meaning is None:
        detail = str(error).rpartition("\nNode: ")[2].partition("\n")[2] or str(error)  # of a graph's error, what the node says
        first = next((line.strip() for line in detail.splitlines() if line.strip()), "no message")
        meaning = f"{type(error).__name__}: {first[:200]}"
    return f"{place}: {meaning}" if (place := _place(error, path)) else meaning


def _place(error, path):
    """"file, line 12, `its text`", the deepest line of the student's folder that took part; "" if none did."""
    frames = traceback.extract_tb(error.__traceback__)
    made = getattr(getattr(error, "op", None), "traceback", None) or []  # where the failing operation was built
    for frame in [*reversed(list(made)), *reversed(frames)]:
        if _is_students(frame, path):
            line = linecache.getline(frame.filename, frame.lineno).strip()
            return f"{Path(frame.filename).name}, line {frame.lineno}, `{line}`"
    return ""


def _is_students(frame, path):
    return Path(frame.filename).parent == path.parent
