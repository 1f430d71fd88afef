"""Exercise 3: train the new layer. fc7_of and new_layer come from your feature_extraction.py.

It ends at an accuracy near 0.7, with only 20 drawn signs a class. Answer these two questions before you run it:

1. What are loss and accuracy of a layer that knows nothing, and so finds each of 43 signs equally probable?
2. Each sign goes through AlexNet once, since it is frozen. What takes longer: that, or ten epochs of training?
"""

import sys
import time
from pathlib import Path

sys.path.extend(map(str, Path(__file__).resolve().parents))  # alexnet.py and lab/ are in a folder above

from lab import command_line

with command_line.quiet_import():
    import numpy as np
    import tensorflow.compat.v1 as tf

    from feature_extraction import fc7_of, new_layer
    from lab.data import drawn_signs, gtsrb
    from lab.network import inference
    from lab.network import weights as weight_files

BATCH, EPOCHS = 128, 10


def loss(logits, labels):
    """The mean cross-entropy, a float32 scalar, of `logits`, float32 [N, 43], before any softmax, for `labels`, int64 [N]."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_mean(losses)


def train_step(loss):
    """The operation that takes one step of Adam, at its default learning rate, to make the scalar tensor `loss` smaller."""
    optimizer = tf.train.AdamOptimizer()
    return optimizer.minimize(loss)


def accuracy(logits, labels):
    """The fraction of the photos, a float32 scalar, 0 to 1, whose largest logit, of [N, 43], is that of their label, [N]."""
    correct = tf.equal(tf.argmax(logits, axis=1), labels)
    return tf.reduce_mean(tf.cast(correct, tf.float32))


def split(features, labels):
    """Return training features and labels, then validation features and labels: NumPy arrays [M, ...], [M], [K, ...], [K].

    The lab's rule: p = np.random.RandomState(0).permutation(N); rows p[:K] validate, K = ceil(0.33 * N); the others train.
    """
    order = np.random.RandomState(0).permutation(len(labels))
    validation, training = np.split(order, [int(np.ceil(0.33 * len(order)))])
    return features[training], labels[training], features[validation], labels[validation]


def batches(features, labels, size):
    """Yield (features, labels) of `size` photos at a time, the last perhaps fewer: all, in a new random order each call."""
    order = np.random.permutation(len(labels))
    for start in range(0, len(labels), size):
        rows = order[start:start + size]
        yield features[rows], labels[rows]


def evaluate(session, measures, inputs, features, labels):
    """The means of loss and accuracy over all photos, two floats, fed at most BATCH at a time; each photo counts the same.

    measures: two tensors, the loss and the accuracy of what is fed. inputs: the tensors to feed, (fc7, labels).
    """
    sums = np.zeros(2)
    for batch in batches(features, labels, BATCH):
        sums += np.multiply(session.run(measures, dict(zip(inputs, batch))), len(batch[1]))
    return sums / len(labels)


def main(arguments=None):
    parser = command_line.Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", metavar="PATH", help="train.p or another copy of GTSRB (default: 20 drawn signs a class)")
    args = parser.parse_args(arguments)
    photos, classes = gtsrb.load(args.data)[:2] if args.data else drawn_signs.render(20, seed=0)

    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.uint8, [None, 32, 32, 3], name="images")
        labels = tf.placeholder(tf.int64, [None], name="labels")
        fc7 = fc7_of(images, weight_files.load())
        logits = new_layer(fc7)
        measures = loss(logits, labels), accuracy(logits, labels)
        step = train_step(measures[0])

        session.run(tf.global_variables_initializer())
        times = [time.time()]
        features = inference.run(session, fc7, images, photos, "Photos through AlexNet")  # float32 [N, 4096]
        times.append(time.time())

        X, y, X_validation, y_validation = split(features, classes)
        before = evaluate(session, measures, (fc7, labels), X_validation, y_validation)
        for epoch in range(EPOCHS):
            np.random.seed([0, 0, epoch])  # the order that the photos have in the lab's page, so that results can be compared
            for X_batch, y_batch in batches(X, y, BATCH):
                session.run(step, {fc7: X_batch, labels: y_batch})
            after = evaluate(session, measures, (fc7, labels), X_validation, y_validation)
            print(f"Epoch {epoch + 1}\nValidation Loss = {after[0]:.4f}\nValidation Accuracy = {after[1]:.4f}\n")
        times.append(time.time())

    print(f"1. Untrained, the loss was {before[0]:.2f} (ln 43 is {np.log(43):.2f}) and the accuracy {before[1]:.3f}.")
    print("2. AlexNet took {:.1f} seconds, the ten epochs {:.1f}.".format(*np.diff(times)))


if __name__ == "__main__":
    command_line.run(main)
