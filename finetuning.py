"""The lab's second method: the whole network learns, the new layer at one pace and the pretrained ones at their own."""

import tensorflow.compat.v1 as tf

import epochs
import inference
import model_folder
import sign_layer
from alexnet import AlexNet
from preprocessing import subtract_mean

DROPOUT = 0.5  # of fc6 and fc7, as AlexNet was trained
PACE = 0.5  # what both learning rates are multiplied by after each epoch


def train(model, state, count, weights, data, training, validation, test=None):
    """Train AlexNet and the new layer end to end for `count` epochs, after the frozen ones, from where `state` stands.

    model, state: the folder of model_folder and its state; the settings say learning_rate (of the new layer),
        pretrained_learning_rate, finetune_batch_size and seed.
    weights: AlexNet's, as from weights.load, where the training begins.
    data, test: gtsrb.Photos. training, validation: int64, the indices of photos in `data`.

    Returns the finished network's logits, float32 [N, 43], for the photos of `validation` and of `test` (None without).
    Raises BadInput when the disk has no room, and what epochs.run raises.
    """
    settings = state["settings"]
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.uint8, [None, 32, 32, 3], name="images")
        labels = tf.placeholder(tf.int64, [None], name="labels")
        dropout_rate = tf.placeholder_with_default(0.0, [], name="dropout_rate")
        dropout_seed = tf.placeholder_with_default([0, 0], [2], name="dropout_seed")
        pace = tf.placeholder_with_default(1.0, [], name="pace")

        fc7 = AlexNet(subtract_mean(images), feature_extract=True, weights=weights, dropout_rate=dropout_rate,
                      dropout_seed=dropout_seed)
        logits = sign_layer.build(fc7)  # no stop_gradient: the gradient of the loss reaches every layer

        cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        new = sign_layer.variables()
        pretrained = [v for v in tf.trainable_variables() if v.op.name.startswith("alexnet/")]
        gradients = tf.gradients(tf.reduce_mean(cross_entropy), new + pretrained)
        adam_new = tf.train.AdamOptimizer(settings["learning_rate"] * pace, name="AdamNew")
        adam_pretrained = tf.train.AdamOptimizer(settings["pretrained_learning_rate"] * pace, name="AdamPretrained")
        train_step = tf.group(adam_new.apply_gradients(zip(gradients[:len(new)], new)),
                              adam_pretrained.apply_gradients(zip(gradients[len(new):], pretrained)))
        correct = tf.equal(tf.argmax(logits, axis=1), labels)

        if model_folder.epochs(state, "finetuned") < count:
            model_folder.make_room(model, state, tf.global_variables())
        session.run(tf.global_variables_initializer())
        model_folder.restore(session, model, state, new if state["stage"] == "frozen" else tf.global_variables())

        def step(rows, epoch, number):
            return session.run([cross_entropy, correct, train_step],
                               {images: data.features[rows], labels: data.labels[rows], pace: PACE ** epoch,
                                dropout_rate: DROPOUT, dropout_seed: [settings["seed"], number]})[:2]

        def validate():
            return inference.run(session, logits, images, data.features, "Validation", validation), data.labels[validation]

        validated = epochs.run(session, tf.global_variables(), model, state, "finetuned", count, training, step, validate)
        return validated, inference.run(session, logits, images, test.features, "Test photos") if test else None
