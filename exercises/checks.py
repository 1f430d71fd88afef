"""The checks of the exercises, one function each. A check returns None if all is right, or a remark (str); it raises Wrong.

Each takes `student`, a types.SimpleNamespace: `module` is the student's script, loaded; `own` are the functions in it, and
`functions` those to use, which are in `module` too: the student's own where they have passed, and the one that is checked,
else the solution's, so that a mistake counts once; `folder` is a Path, and `load(file)` loads another script in it.
They run in a process of their own, which may change TensorFlow and the lab's modules for the student to be seen at work.
"""

import errors
from graph_checks import check_accuracy, check_fc7_of, check_freeze, check_loss, check_new_layer, check_resize, check_train_step
from run_checks import check_batches, check_evaluate, check_main, check_split, check_training
from watching import Wrong

from lab.files import BadInput

SIGNS, LAYER, TRAIN = "traffic_sign_inference.py", "feature_extraction.py", "train_feature_extraction.py"
TRAINING = "README, 4. Training the feature extractor"


def _whole(file, check):
    given = f"exercises/{file}"
    return file, check, f"main in {given}", f"compare your main with the one in {given}"


CHECKS = {  # in the lab's order: the file, the check, where to read, a hint
    "resize": (SIGNS, check_resize, "the docstring of resize; README, 2. Traffic sign inference",
               "tf.image.resize_images(signs, (height, width)) does it, with nothing else given"),
    "inference": _whole(SIGNS, check_main),
    "fc7_of": (LAYER, check_fc7_of, "the docstring of fc7_of; README, 3. Feature extraction; AlexNet in alexnet.py",
               "cast to tf.float32, subtract tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True), resize as before, then "
               "AlexNet(resized, feature_extract=True, weights=weights), and freeze its result"),
    "new_layer": (LAYER, check_new_layer, "the docstring of new_layer; README, 3. Feature extraction",
                  "two variables, of tf.truncated_normal([4096, 43], stddev=0.01) and tf.zeros([43]); then tf.matmul and +"),
    "freeze": (LAYER, check_freeze,
               "the docstring of fc7_of; on the lab's page, Transfer Learning with TensorFlow, 1. Feature extraction",
               "fc7_of returns tf.stop_gradient(fc7): from there no gradient goes back"),
    "extraction": _whole(LAYER, check_main),
    "loss": (TRAIN, check_loss, "the docstring of loss; " + TRAINING,
             "tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits), then tf.reduce_mean"),
    "train_step": (TRAIN, check_train_step, "the docstring of train_step; " + TRAINING,
                   "tf.train.AdamOptimizer() has a method minimize(loss), which gives the operation"),
    "accuracy": (TRAIN, check_accuracy, "the docstring of accuracy; " + TRAINING,
                 "tf.argmax(logits, axis=1), tf.equal, tf.cast to tf.float32, tf.reduce_mean"),
    "split": (TRAIN, check_split, "the docstring of split; " + TRAINING,
              "order = np.random.RandomState(0).permutation(len(labels)); order[:K] and order[K:] are rows of both arrays"),
    "batches": (TRAIN, check_batches, "the docstring of batches; " + TRAINING,
                "np.random.permutation(len(labels)), and a loop over range(0, len(labels), size) that yields slices of it"),
    "evaluate": (TRAIN, check_evaluate, "the docstring of evaluate; " + TRAINING,
                 "session.run(measures, {inputs[0]: ..., inputs[1]: ...}) for each batch, times its size; then divide the sum"),
    "training": _whole(TRAIN, check_training),
}
WHOLE = ("inference", "extraction", "training")  # checks that run a whole script


def verdict(name, student):
    """("right", ""), ("remark", sentence), ("open", sentence) or ("wrong", sentence) for the check `name`."""
    file, check, _, _ = CHECKS[name]
    try:
        needed = "main" if name in WHOLE else "fc7_of" if name == "freeze" else name
        if not callable(getattr(student.module, needed, None)):
            raise Wrong(f"the function {needed} is missing: copy it from exercises/{file} again")
        remark = check(student)
        return ("remark", remark) if remark else ("right", "")
    except Wrong as error:
        return "wrong", str(error)
    except BaseException as error:  # the student's code may raise anything
        sentence = errors.explain(error, student.folder / file, name)
        if isinstance(error, BadInput) and "is still open" in str(error):
            gap = str(error).split()[0]
            return "open", "fill in its TODO" if gap == name else f"not checked yet: {gap} comes first"
        return "wrong", sentence
