"""A trained network as a SavedModel: one folder that TensorFlow Serving, or any TensorFlow, loads without the lab's code."""

import os
import shutil
from pathlib import Path

import tensorflow.compat.v1 as tf

from lab import files
from lab.data import gtsrb
from lab.files import BadInput
from lab.network import new_layer, variables
from lab.training import checkpoints


def save(folder, model, state, fc7_of, weights):
    """Write the network of the model folder `model`, with its `state` (checkpoints.read), to the new `folder`.

    fc7_of: a function that builds AlexNet on the tensor of images, uint8 [N, 32, 32, 3], and returns fc7, float32 [N, 4096].
    weights: AlexNet's, as from weights.load, those that the model was trained on.

    The signature "serving_default" takes `images`, uint8 [N, 32, 32, 3] in RGB, and returns `probabilities`, float32 [N, 43]
    in the order of the classes, and of the most probable class `class_ids`, int64 [N], and `names`, strings [N].

    The folder appears when it is complete. Raises BadInput when it cannot be written.
    """
    tf.get_logger().setLevel("ERROR")  # it would warn that TensorFlow 2 makes SavedModels in another way
    folder = Path(folder)
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}.unfinished")
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.uint8, [None, 32, 32, 3], name="images")
        with variables.without_python():  # a server has none
            logits = new_layer.build(fc7_of(images), gtsrb.CLASSES)
        probabilities = tf.nn.softmax(logits, name="probabilities")
        class_ids = tf.argmax(probabilities, axis=1, name="class_ids")
        names = tf.gather(tf.constant(gtsrb.sign_names()), class_ids, name="names")

        for variable in tf.trainable_variables():
            _, layer, kind = ("/" + variable.op.name).rsplit("/", 2)
            if layer in weights:
                variables.assign(session, variable, weights[layer][kind == "biases"])
        checkpoints.restore(session, model, state)
        shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
        try:
            tf.saved_model.simple_save(session, str(unfinished), {"images": images},
                                       {"probabilities": probabilities, "class_ids": class_ids, "names": names})
            unfinished.rename(folder)
        except (tf.errors.OpError, OSError) as error:
            raise BadInput(f"{folder} cannot be written: {files.reason(error)}; name another folder with --export") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    trained = " and ".join(f"{done} {stage}" for stage in checkpoints.STAGES if (done := checkpoints.epochs_done(state, stage)))
    files.notice(f"The network, after {trained or 'no finished'} epochs, is in {folder}, for TensorFlow Serving or "
                 "tf.saved_model.load.")
