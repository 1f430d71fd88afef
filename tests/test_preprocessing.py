"""Photos become AlexNet's features by the lab's convention, with TensorFlow 1's bilinear resize, or by Caffe's."""

import numpy as np
import tensorflow.compat.v1 as tf
from PIL import Image

from lab.data.photos import SAMPLES, read_caffe
from lab.network.preprocessing import caffe, subtract_mean


def run(photos, convention=subtract_mean):
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.uint8, [None, *photos.shape[1:]])
        return session.run(convention(images), {images: photos})


def photos(side, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (3, side, side, 3), np.uint8)


def test_each_photo_loses_its_own_mean_and_nothing_else_changes():
    images = photos(227) // np.uint8([[[[1]]], [[[2]]], [[[5]]]])  # of different brightness
    expected = images - images.reshape(3, -1).mean(axis=1).reshape(3, 1, 1, 1)
    np.testing.assert_allclose(run(images), expected, atol=1e-3)


def test_signs_are_resized_without_half_pixel_centres():
    images = photos(32)
    centred = images - images.reshape(3, -1).mean(axis=1).reshape(3, 1, 1, 1)
    place = np.arange(227) * 32 / 227  # of output pixel i in the input: i * scale, not (i + 0.5) * scale - 0.5
    low = place.astype(int)
    high, share = np.minimum(low + 1, 31), place - low
    rows = centred[:, low] * (1 - share)[:, None, None] + centred[:, high] * share[:, None, None]
    expected = rows[:, :, low] * (1 - share)[:, None] + rows[:, :, high] * share[:, None]
    ours = run(images, lambda images: tf.image.resize_images(subtract_mean(images), (227, 227)))
    assert np.abs(ours - expected).max() < 1e-4 * np.abs(expected).max()


def test_caffes_convention_is_the_middle_in_bgr_minus_imagenets_means():
    images = photos(256)
    result = run(images, caffe)
    assert result.shape == (3, 227, 227, 3)
    for channel, (source, mean) in enumerate([(2, 104), (1, 117), (0, 123)]):  # blue, green, red
        assert np.array_equal(result[..., channel], images[:, 14:241, 14:241, source].astype(np.float32) - mean)


def lanczos(size, new_size):
    """The matrix [new_size, size] of a resize with the three-lobed Lanczos kernel, which is widened for shrinking."""
    scale = size / new_size
    width = max(scale, 1)
    x = ((np.arange(new_size)[:, None] + 0.5) * scale - np.arange(size) - 0.5) / width
    matrix = np.where(abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
    return matrix / matrix.sum(axis=1, keepdims=True)


def test_caffe_warps_the_whole_photo_to_a_square():
    coffee = np.asarray(Image.open(SAMPLES[1]).convert("RGB"))
    assert coffee.shape == (400, 600, 3)
    narrow = np.einsum("xw,hwc->hxc", lanczos(600, 256), coffee).round().clip(0, 255)  # Pillow rounds to bytes in between too
    expected = np.einsum("yh,hxc->yxc", lanczos(400, 256), narrow).clip(0, 255)
    assert np.abs(read_caffe(SAMPLES[1]) - expected).max() < 1.5
