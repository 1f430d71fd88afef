"""Measure the effect of each ingredient of drawn_signs.py: two models train with and without it, and read real photos.

    .venv/bin/python benchmarks/ingredients.py ../shared/gtsrb

The folder holds train.p (real photos) and true_tracks.npy (1000 * class + track). Only tracks with even numbers are used:
the ingredients are chosen on them, and the odd ones are kept for reporting. The models are the lab's layer on the frozen
fc7 of the built-in weights, and a small network, three convolutions on 32x32 pixels, trained end to end.

Two drawn sets of the same kind differ by two points, as much as an ingredient is worth. So each run leaves out about half
of the ingredients, chosen by a Hadamard matrix (Plackett and Burman, "The design of optimum multifactorial experiments",
Biometrika 1946). The effect of an ingredient is the mean accuracy of the runs with it minus that of the runs without it;
every other ingredient is equally frequent in both, so all runs contribute to each effect.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
import scipy.linalg  # noqa: E402
import tensorflow.compat.v1 as tf  # noqa: E402

from alexnet import AlexNet  # noqa: E402
from lab.data import (
    dataset,  # noqa: E402
    drawn_signs,  # noqa: E402
    gtsrb,  # noqa: E402
)
from lab.network import (
    inference,  # noqa: E402
    new_layer,  # noqa: E402
    weights,  # noqa: E402
)
from lab.network.fast_layers import resized_conv  # noqa: E402
from lab.network.preprocessing import subtract_mean  # noqa: E402
from lab.training import kept_features  # noqa: E402

COUNT = 80  # drawn signs of each class


def slim_only(texels):
    texels = texels().reshape(gtsrb.CLASSES, 2, -1, 4)[:, [0, 0]].reshape(-1, 4)
    return lambda: texels


INGREDIENTS = {  # how drawn_signs.py changes when each is left out
    "the second design of each sign": {"_texels": slim_only},
    "sizes beyond GTSRB's margins": {"_NATIVE": (32, 44, 0.0), "_FIT": (0.02, 0.0), "_STRETCH": 0.0},
    "shift, rotation, perspective": {"_SHIFT": 0.0, "_ROTATION": 0.0, "_PERSPECTIVE": 0.0},
    "scenery: colours, leaves, edge": {"_SCENERY": ((0.5, 0.5, 0.5),), "_LEAVES": 0.0, "_EDGE": 0.0},
    "light from behind": {"_BACKLIGHT": (0.0, 0.0)},
    "confetti": {"_CONFETTI": 0.0},
    "Perlin shade": {"_SHADE": 0.0},
    "colour, saturation, haze": {"_COLOUR": ((0.0, 0.0, 0.0), 0.0), "_SATURATION": (0.7, 0.7), "_HAZE": 0.0},
    "the distribution of brightness": {"_brightness": lambda original: lambda count, rng: np.full(count, 95, np.float32)},
    "blur, motion, sharpening": {"_BLUR": (0.45, 0.45), "_MOTION": 0.0, "_SHARPEN": 0.0},
    "noise": {"_NOISE": 0.0},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with train.p and true_tracks.npy")
    parser.add_argument("--runs", type=int, default=16, choices=[16, 32, 64], help="more runs are more precise (default: 16)")
    args = parser.parse_args()
    photos = dataset.load(args.folder / "train.p")
    even = np.load(args.folder / "true_tracks.npy") % 2 == 0
    real, labels = photos.features[even], photos.labels[even]
    originals = {name: getattr(drawn_signs, name) for changes in INGREDIENTS.values() for name in changes}

    design = scipy.linalg.hadamard(args.runs)[:, 1:len(INGREDIENTS) + 1] > 0
    accuracies = np.empty((args.runs, 2))
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.uint8, [None, 32, 32, 3])
        alexnet_weights = weights.load("builtin")
        fc7 = AlexNet(subtract_mean(images), feature_extract=True, weights=alexnet_weights, conv1=resized_conv)
        session.run(tf.global_variables_initializer())

        network = inference.fingerprint(fc7, weights.fingerprint(alexnet_weights))

        def through_alexnet(features, folder=None):
            return kept_features.outputs(lambda batch: session.run(fc7, {images: batch}), features, folder, network)

        real_fc7 = through_alexnet(real, "cache")
        for run, present in enumerate(design):
            changes = {name: change for used, changes in zip(present, INGREDIENTS.values()) if not used
                       for name, change in changes.items()}
            for name, value in originals.items():
                change = changes.get(name, value)
                setattr(drawn_signs, name, change(value) if callable(change) and change is not value else change)
            drawn_signs._resizers.cache_clear()
            drawn, truth = drawn_signs.render(COUNT, run)
            accuracies[run] = (learn(layer, through_alexnet(drawn), truth, real_fc7, labels, epochs=20, batch_size=128),
                               learn(small_network, drawn, truth, real, labels, epochs=8, batch_size=64))
            print("run {} of {}: the layer {:.3f}, the small network {:.3f}".format(run + 1, args.runs, *accuracies[run]),
                  file=sys.stderr, flush=True)

    signed = np.where(design, 1, -1)
    effects = 2 * signed.T @ accuracies / args.runs
    fitted = accuracies.mean(axis=0) + signed @ effects / 2
    freedom = args.runs - 1 - len(INGREDIENTS)
    error = 2 * np.sqrt(((accuracies - fitted) ** 2).sum(axis=0) / freedom / args.runs)
    print(f"points of accuracy on {len(labels)} real photos{'':9} layer on fc7   small network")
    for ingredient, (frozen, small) in zip(INGREDIENTS, 100 * effects):
        print(f"{ingredient:45} {frozen:+8.1f} {small:+15.1f}")
    print("{:45} {:8.1f} {:15.1f}".format("standard error", *100 * error))
    print("{:45} {:7.1f}% {:14.1f}%".format("mean accuracy of all runs", *100 * accuracies.mean(axis=0)))


def learn(network, features, labels, test_features, test_labels, epochs, batch_size):
    """Train `network` on `features` with Adam, its rate falling linearly to 0; return the accuracy on the test photos."""
    with tf.Graph().as_default(), tf.Session() as session:
        inputs = tf.placeholder(features.dtype, [None, *features.shape[1:]])
        truth, rate = tf.placeholder(tf.int64, [None]), tf.placeholder(tf.float32, [])
        drop = tf.placeholder_with_default(0.0, [])
        logits = network(inputs, drop)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=truth, logits=logits))
        train_step = tf.train.AdamOptimizer(rate).minimize(loss)
        session.run(tf.global_variables_initializer())
        order = np.random.RandomState(0)
        for epoch in range(epochs):
            shuffled = order.permutation(len(labels))
            for i in range(0, len(labels), batch_size):
                batch = shuffled[i:i + batch_size]
                progress = (epoch + i / len(labels)) / epochs
                session.run(train_step, {inputs: features[batch], truth: labels[batch], drop: 0.5,
                                         rate: 1.5e-3 * (1 - progress)})
        answers = [session.run(logits, {inputs: test_features[i:i + 500]}) for i in range(0, len(test_labels), 500)]
    return np.mean(np.concatenate(answers).argmax(axis=1) == test_labels)


def layer(fc7, drop):
    return new_layer.build(fc7, gtsrb.CLASSES)


def small_network(images, drop):
    net = tf.cast(images, tf.float32)
    net = (net - tf.reduce_mean(net, axis=[1, 2, 3], keepdims=True)) / 50
    for seed, (kernel, width) in enumerate([(5, 32), (3, 64), (3, 128)]):
        net = tf.nn.conv2d(net, variable([kernel, kernel, net.shape.as_list()[3], width], seed), 1, "SAME")
        net = tf.nn.max_pool(tf.nn.relu(net + tf.Variable(tf.zeros(width))), 2, 2, "SAME")
    net = tf.reshape(net, [-1, 4 * 4 * 128])
    net = tf.nn.dropout(tf.nn.relu(net @ variable([2048, 256], 3) + tf.Variable(tf.zeros(256))), rate=drop, seed=5)
    return net @ variable([256, gtsrb.CLASSES], 4) + tf.Variable(tf.zeros(gtsrb.CLASSES))


def variable(shape, seed):
    return tf.Variable(tf.truncated_normal(shape, stddev=np.sqrt(2 / np.prod(shape[:-1])), seed=seed))


if __name__ == "__main__":
    main()
