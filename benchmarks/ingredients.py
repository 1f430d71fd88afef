"""What each ingredient of signs.py is worth: a small network learns from drawn signs without it and reads real photos.

    .venv/bin/python benchmarks/ingredients.py ../shared/gtsrb

The folder holds train.p, real photos, and true_tracks.npy, 1000 * class + track. Only tracks with even numbers are read:
the ingredients are chosen on them, and the odd ones are left to report on. The network is no AlexNet, but three
convolutions on 32x32 pixels, which learn end to end in half a minute. What counts is the difference; that of two drawn
sets with the same ingredients is about two points, so that each is the mean of several.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np  # noqa: E402
import tensorflow.compat.v1 as tf  # noqa: E402

import gtsrb  # noqa: E402
import signs  # noqa: E402

COUNT, EPOCHS, BATCH = 120, 8, 64

def _slim_only(texels):
    texels = texels().reshape(gtsrb.CLASSES, 2, -1, 4)[:, [0, 0]].reshape(-1, 4)
    return lambda: texels


WITHOUT = {  # ingredient: what signs.py is changed to when it is left out
    "nothing": {},
    "the second design of each sign": {"_texels": _slim_only},
    "sizes as GTSRB's margins make them": {"_NATIVE": (32, 44, 0.0), "_FIT": (0.02, 0.0), "_STRETCH": 0.0},
    "shift, rotation, perspective": {"_SHIFT": 0.0, "_ROTATION": 0.0, "_PERSPECTIVE": 0.0},
    "scenery: colours, leaves, edge": {"_SCENERY": ((0.5, 0.5, 0.5),), "_LEAVES": 0.0, "_EDGE": 0.0},
    "pole, plate, neighbour": {"_POLE": 0.0, "_PLATE": 0.0, "_NEIGHBOUR": 0.0},
    "light from behind": {"_BACKLIGHT": (0.0, 0.0)},
    "confetti": {"_CONFETTI": 0.0},
    "Perlin shade": {"_SHADE": 0.0},
    "colour, saturation, haze": {"_COLOUR": 0.0, "_SATURATION": (0.7, 0.7), "_HAZE": 0.0},
    "the law of brightness": {"_brightness": lambda law: lambda count, rng: np.full(count, 95, np.float32)},
    "blur, motion, sharpening": {"_BLUR": (0.45, 0.45), "_MOTION": 0.0, "_SHARPEN": 0.0},
    "noise": {"_NOISE": 0.0},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with train.p and true_tracks.npy")
    parser.add_argument("only", nargs="*", help="ingredients to leave out, one at a time (default: all)")
    parser.add_argument("--sets", type=int, default=3, help="drawn sets to learn from, of which the mean is taken (default: 3)")
    args = parser.parse_args()
    photos = gtsrb.load(args.folder / "train.p")
    even = np.load(args.folder / "true_tracks.npy") % 2 == 0
    kept = {name: getattr(signs, name) for changes in WITHOUT.values() for name in changes}
    for ingredient, changes in WITHOUT.items():
        if args.only and ingredient not in args.only:
            continue
        for name, value in kept.items():
            change = changes.get(name, value)
            setattr(signs, name, change(value) if callable(change) and change is not value else change)
        signs._resizers.cache_clear()
        accuracies = [learn(*signs.render(COUNT, seed), photos.features[even], photos.labels[even])
                      for seed in range(args.sets)]
        print(f"{ingredient:36} {np.mean(accuracies):.3f}  ({', '.join(f'{a:.3f}' for a in accuracies)})", flush=True)


def learn(features, labels, test_features, test_labels):
    """The accuracy on the test photos of the small network trained on `features`."""
    with tf.Graph().as_default(), tf.Session() as session:
        images, truth = tf.placeholder(tf.uint8, [None, 32, 32, 3]), tf.placeholder(tf.int64, [None])
        rate, drop = tf.placeholder(tf.float32, []), tf.placeholder_with_default(0.0, [])
        net = tf.cast(images, tf.float32)
        net = (net - tf.reduce_mean(net, axis=[1, 2, 3], keepdims=True)) / 50
        for seed, (kernel, width) in enumerate([(5, 32), (3, 64), (3, 128)]):
            net = tf.nn.conv2d(net, variable([kernel, kernel, net.shape.as_list()[3], width], seed), 1, "SAME")
            net = tf.nn.max_pool(tf.nn.relu(net + tf.Variable(tf.zeros(width))), 2, 2, "SAME")
        net = tf.reshape(net, [-1, 4 * 4 * 128])
        net = tf.nn.dropout(tf.nn.relu(net @ variable([2048, 256], 3) + tf.Variable(tf.zeros(256))), rate=drop, seed=5)
        logits = net @ variable([256, gtsrb.CLASSES], 4) + tf.Variable(tf.zeros(gtsrb.CLASSES))
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=truth, logits=logits))
        train_step = tf.train.AdamOptimizer(rate).minimize(loss)
        session.run(tf.global_variables_initializer())
        order = np.random.RandomState(0)
        for epoch in range(EPOCHS):
            shuffled = order.permutation(len(labels))
            for i in range(0, len(labels), BATCH):
                batch = shuffled[i:i + BATCH]
                progress = (epoch + i / len(labels)) / EPOCHS
                session.run(train_step, {images: features[batch], truth: labels[batch], drop: 0.5,
                                         rate: 1.5e-3 * (1 - progress)})
        answers = [session.run(logits, {images: test_features[i:i + 500]}) for i in range(0, len(test_labels), 500)]
    return np.mean(np.concatenate(answers).argmax(axis=1) == test_labels)


def variable(shape, seed):
    return tf.Variable(tf.truncated_normal(shape, stddev=np.sqrt(2 / np.prod(shape[:-1])), seed=seed))


if __name__ == "__main__":
    main()
