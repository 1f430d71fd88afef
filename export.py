"""A trained network as a SavedModel: one folder that TensorFlow Serving, or any TensorFlow, loads without the lab's code."""

import os
import shutil
from pathlib import Path

import tensorflow.compat.v1 as tf

import files
import gtsrb
import model_folder
import sign_layer
from alexnet import AlexNet
from files import BadInput
from preprocessing import preprocess


def save(folder, model, state, alexnet_weights):
    """Write the network of the model folder `model`, with its `state` (model_folder.read), to the new `folder`.

    alexnet_weights: as from weights.load, those that the model was trained on.

    The signature "serving_default" takes `images`, uint8 [N, 32, 32, 3] in RGB, and gives `probabilities`, float32 [N, 43] in
    the order of the classes, and of the most probable class `class_ids`, int64 [N], and `names`, strings [N].

    The folder appears when it is whole. Raises BadInput when it cannot be written.
    """
    folder = Path(folder)
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}.unfinished")
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.uint8, [None, 32, 32, 3], name="images")
        with tf.variable_creator_scope(_without_python):
            fc7 = AlexNet(preprocess(images), feature_extract=True, weights=alexnet_weights)
            logits = sign_layer.build(fc7)
        probabilities = tf.nn.softmax(logits, name="probabilities")
        class_ids = tf.argmax(probabilities, axis=1, name="class_ids")
        names = tf.gather(tf.constant(gtsrb.sign_names()), class_ids, name="names")

        for variable in tf.trainable_variables():
            _, layer, kind = ("/" + variable.op.name).rsplit("/", 2)
            if layer in alexnet_weights:
                array = alexnet_weights[layer][kind == "biases"]
                session.run(variable.initializer, {variable.initial_value: array})
        model_folder.restore(session, model, state)
        shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
        try:
            tf.saved_model.simple_save(session, str(unfinished), {"images": images},
                                       {"probabilities": probabilities, "class_ids": class_ids, "names": names})
            unfinished.rename(folder)
        except (tf.errors.OpError, OSError) as error:
            raise BadInput(f"{folder} cannot be written: {files.reason(error)}; name another folder with --export") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _without_python(next_creator, **arguments):
    """A variable that begins as zeros: what alexnet.variable begins with is asked of Python, which a server has not."""
    if callable(arguments["initial_value"]):
        arguments["initial_value"] = tf.zeros(arguments["shape"])
    return next_creator(**arguments)
