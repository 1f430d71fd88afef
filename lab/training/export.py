"""A trained network as a SavedModel: one folder that TensorFlow Serving, or any TensorFlow, loads without the lab's code."""

import shutil
from pathlib import Path

import tensorflow.compat.v1 as tf

from lab import files, locks
from lab.files import BadInput
from lab.network import new_layer, variables
from lab.network.fast_layers import strided_conv
from lab.network.preprocessing import subtract_mean
from lab.training import checkpoints


def save(folder, model, state, AlexNet, weights):
    """Write the network of the model folder `model`, with its `state` (checkpoints.read), to the new `folder`.

    AlexNet: the function in alexnet.py. weights: the weights that the model was trained on, as returned by weights.load.

    The signature "serving_default" takes `images`, uint8 [N, size, size, 3] in RGB, where the size is the model's, 32 or 227,
    and returns `probabilities`, float32 [N, C] in the order of the classes, and of the most probable class `class_ids`, int64
    [N], and `names`, strings [N].

    The folder appears when it is complete. Raises BadInput when it cannot be written.
    """
    tf.get_logger().setLevel("ERROR")  # it would warn that TensorFlow 2 makes SavedModels in another way
    folder = Path(folder)
    unfinished = folder.with_name(f"{folder.name}.unfinished")

    def busy():
        raise BadInput(f"another process is exporting to {folder}: wait until it ends, or name another folder with --export")

    with locks.locked(folder.with_name(f"{folder.name}.lock"), busy), tf.Graph().as_default(), tf.Session() as session:
        settings = state["settings"]
        size = settings["size"]
        images = tf.placeholder(tf.uint8, [None, size, size, 3], name="images")
        with variables.without_python():  # a server has none
            resized = tf.image.resize_images(subtract_mean(images), (227, 227))
            fc7 = AlexNet(resized, feature_extract=settings["layer"], weights=weights, conv1=strided_conv)
            logits = new_layer.build(new_layer.as_kept(fc7, settings["layer"]), len(state["class_names"]),
                                     hidden=settings["hidden"])
        probabilities = tf.nn.softmax(logits, name="probabilities")
        class_ids = tf.argmax(probabilities, axis=1, name="class_ids")
        names = tf.gather(tf.constant(state["class_names"]), class_ids, name="names")

        for variable in tf.trainable_variables("alexnet/"):
            _, layer, kind = variable.op.name.split("/")
            variables.assign(session, variable, weights[layer][kind == "biases"])
        checkpoints.restore(session, model, state)
        shutil.rmtree(unfinished, ignore_errors=True)  # left by a process that was killed
        try:
            tf.saved_model.simple_save(session, str(unfinished), {"images": images},
                                       {"probabilities": probabilities, "class_ids": class_ids, "names": names})
            unfinished.rename(folder)
        except (tf.errors.OpError, OSError) as error:
            raise BadInput(f"{folder} cannot be written: {files.reason(error)}; name another folder with --export") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    trained = " and ".join(f"{done} {stage}" for stage in checkpoints.STAGES if (done := checkpoints.epochs_done(state, stage)))
    trained = f"{trained or 'no finished'} epochs"
    if state["best"]:
        trained = f"epoch {state['best']['epoch']}, the one with the lowest validation loss"
    files.notice(f"The network, after {trained}, is in {folder}, for TensorFlow Serving or tf.saved_model.load.")
