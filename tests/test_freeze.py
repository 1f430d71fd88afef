"""fc7 stays frozen while the new layer learns: that makes it feature extraction rather than finetuning."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from alexnet import AlexNet
from lab.network import new_layer
from lab.network.preprocessing import subtract_mean


@pytest.fixture
def lab(random_weights):
    """Builds the lab's training graph, with or without tf.stop_gradient on fc7."""
    def build(frozen):
        images = tf.placeholder(tf.uint8, [None, 32, 32, 3])
        labels = tf.placeholder(tf.int64, [None])
        fc7 = AlexNet(tf.image.resize_images(subtract_mean(images), (227, 227)), feature_extract=True, weights=random_weights)
        logits = new_layer.build(tf.stop_gradient(fc7) if frozen else fc7, 43)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
        alexnet = [v for v in tf.trainable_variables() if v.name.startswith("alexnet/")]
        assert len(alexnet) == 14 and len(new_layer.variables()) == 2
        return images, labels, loss, alexnet

    return build


def test_no_gradient_of_the_loss_reaches_alexnet_unless_stop_gradient_is_left_out(lab):
    for frozen in (True, False):
        with tf.Graph().as_default():
            _, _, loss, alexnet = lab(frozen)
            assert [gradient is None for gradient in tf.gradients(loss, alexnet)] == [frozen] * 14
            assert None not in tf.gradients(loss, new_layer.variables())


def test_twenty_steps_on_photos_change_the_new_layer_and_not_one_byte_of_alexnet(lab):
    rng = np.random.default_rng(0)
    with tf.Graph().as_default(), tf.Session() as session:
        images, labels, loss, alexnet = lab(frozen=True)
        train_step = tf.train.AdamOptimizer().minimize(loss)
        session.run(tf.global_variables_initializer())
        before, fresh_layer = session.run([alexnet, new_layer.variables()])
        for _ in range(20):
            session.run(train_step, {images: rng.integers(0, 256, (4, 32, 32, 3)), labels: rng.integers(0, 43, 4)})
        after, trained_layer = session.run([alexnet, new_layer.variables()])
    assert [a.tobytes() == b.tobytes() for a, b in zip(before, after)] == [True] * 14
    assert [np.array_equal(a, b) for a, b in zip(fresh_layer, trained_layer)] == [False] * 2


@pytest.mark.slow
def test_one_step_without_stop_gradient_changes_alexnet(lab):
    rng = np.random.default_rng(0)
    with tf.Graph().as_default(), tf.Session() as session:
        images, labels, loss, alexnet = lab(frozen=False)
        train_step = tf.train.AdamOptimizer().minimize(loss)
        session.run(tf.global_variables_initializer())
        before = session.run(alexnet)
        session.run(train_step, {images: rng.integers(0, 256, (4, 32, 32, 3)), labels: rng.integers(0, 43, 4)})
        after = session.run(alexnet)
    assert [np.array_equal(a, b) for a, b in zip(before, after)] == [False] * 14
