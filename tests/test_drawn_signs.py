"""The signs that the lab draws: reproducible from a seed, similar to GTSRB's, and enough to run the lab."""

import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from PIL import Image

import train_feature_extraction
from lab import cpu, files
from lab.data import dataset, drawn_signs, sign_templates, splits


@pytest.fixture(scope="module")
def templates():
    return sign_templates.templates(32).astype(float) / 255


@pytest.fixture(scope="module")
def drawn():
    return drawn_signs.render(20, seed=1)


def test_a_set_has_the_labs_format_and_every_class_equally_often(drawn):
    features, labels = drawn
    assert features.shape == (43 * 20, 32, 32, 3) and features.dtype == np.uint8
    assert labels.dtype == np.int64 and np.array_equal(np.bincount(labels), [20] * 43)


@pytest.mark.slow
def test_the_same_seed_draws_the_same_bytes_in_another_process_and_another_seed_does_not(drawn):
    def digest(seed):
        code = ("import hashlib; from lab.data.drawn_signs import render; "
                f"print(hashlib.sha256(render(2, {seed})[0]).hexdigest())")
        return subprocess.check_output([sys.executable, "-c", code], cwd=files.HERE, text=True).strip()

    ours = hashlib.sha256(drawn[0][:86]).hexdigest()  # a larger set begins with the signs of a smaller one
    assert digest(1) == ours != digest(2)


def test_neither_the_number_of_threads_nor_the_count_changes_the_signs(drawn, monkeypatch):
    monkeypatch.setattr(cpu, "cores", lambda: 1)
    assert np.array_equal(drawn_signs.render(3, seed=1)[0], drawn[0][:43 * 3])


def test_no_two_signs_are_identical(drawn):
    assert len({photo.tobytes() for photo in drawn[0]}) == len(drawn[0])


@pytest.mark.parametrize("label, x, y, colour", [  # points of one plain colour
    (1, 0.5, 0.06, sign_templates.RED), (1, 0.5, 0.22, sign_templates.WHITE), (17, 0.5, 0.2, sign_templates.RED),
    (17, 0.5, 0.5, sign_templates.WHITE), (14, 0.5, 0.12, sign_templates.RED), (12, 0.5, 0.5, sign_templates.YELLOW),
    (15, 0.5, 0.5, sign_templates.WHITE), (13, 0.5, 0.3, sign_templates.WHITE), (13, 0.5, 0.09, sign_templates.RED),
    (18, 0.5, 0.92, sign_templates.RED), (35, 0.2, 0.5, sign_templates.BLUE), (35, 0.5, 0.6, sign_templates.WHITE),
    (32, 0.25, 0.25, sign_templates.WHITE), (40, 0.5, 0.5, sign_templates.BLUE), (16, 0.6, 0.47, sign_templates.BLACK),
])
def test_a_sign_has_its_colours_in_their_places(templates, label, x, y, colour):
    for template in 255 * templates[label]:
        assert np.abs(template[int(32 * y), int(32 * x)] - np.array([*colour, 255.0])).max() < 12


def test_the_corners_of_round_signs_are_transparent_and_all_triangles_but_yield_point_up(templates):
    alpha = templates[..., 3]
    assert not alpha[[0, 14, 17, 35], :, [[0], [-1]], [[0], [-1]]].any()
    width = (alpha > 0.5).sum(axis=3)
    assert (width[18:32, :, 6] < 12).all() and (width[18:32, :, 25] > 22).all()
    assert (width[13, :, 6] > 22).all() and (width[13, :, 25] < 12).all()


@pytest.mark.parametrize("left, right", [(19, 20), (34, 33), (37, 36), (39, 38)])
def test_signs_for_left_and_right_are_mirror_images(templates, left, right):
    assert np.abs(templates[left][:, :, ::-1] - templates[right]).mean() < 0.01


def test_signs_of_two_classes_can_be_told_apart_at_32_pixels(templates):
    """Designs of different classes differ clearly, in the root mean square over pixels."""
    flat = (templates[..., :3] * templates[..., 3:]).reshape(86, -1)
    distance = np.sqrt(((flat[:, None] - flat[None]) ** 2).mean(axis=2))
    between_classes = distance[np.arange(86)[:, None] // 2 != np.arange(86)[None] // 2]
    assert between_classes.min() > 0.04  # ten grey levels in each channel of each pixel


def test_the_two_designs_of_a_sign_differ(templates):
    assert (np.abs(templates[:, 0] - templates[:, 1]).mean(axis=(1, 2, 3)) > 0.003).all()


def test_signs_are_placed_as_by_scipys_map_coordinates():
    rng = np.random.default_rng(0)
    placements = drawn_signs._placements(np.array([24, 44, 90], np.float32), rng)
    labels = np.array([5, 25, 38])
    ours = drawn_signs._signs(placements, labels, np.random.default_rng(3))
    designs = np.random.default_rng(3).integers(0, 2, 3)
    templates = sign_templates.templates(drawn_signs._TEMPLATE).astype(float) / 255
    templates[..., :3] *= templates[..., 3:]
    y, x = (np.mgrid[:drawn_signs._WIDE, :drawn_signs._WIDE] + 0.5 - drawn_signs._WIDE / 2) / 32
    for placement, label, design, sign in zip(placements, labels, designs, ours):
        u, v, w = np.einsum("ij,jyx->iyx", placement.astype(float), np.stack([x, y, np.ones_like(x)]))
        at = [(p / w + 0.5) * drawn_signs._TEMPLATE - 0.5 for p in (v, u)]
        for channel in range(4):
            expected = scipy.ndimage.map_coordinates(templates[label, design, ..., channel], at, order=1, mode="grid-constant")
            assert np.abs(sign[..., channel] - expected).max() < 1e-3


def test_perlin_noise_is_a_blend_of_the_planes_at_the_lattice_points():
    cells, rng = 5, np.random.default_rng(0)
    ours = drawn_signs._perlin(cells, 2, rng)
    angle = np.random.default_rng(0).random((2, 6, 6), np.float32) * 2 * np.pi
    t = (np.arange(drawn_signs._WIDE) + 0.5) * cells / drawn_signs._WIDE

    def fade(d):
        return 1 - (6 * abs(d) ** 5 - 15 * abs(d) ** 4 + 10 * abs(d) ** 3)

    for i, j in ((0, 0), (7, 21), (30, 12), (drawn_signs._WIDE - 1, 3)):
        x, y = t[j], t[i]
        expected = 0
        for a in (int(y), int(y) + 1):
            for b in (int(x), int(x) + 1):
                plane = np.cos(angle[:, a, b]) * (x - b) + np.sin(angle[:, a, b]) * (y - a)
                expected = expected + fade(x - b) * fade(y - a) * plane
        assert ours[:, i, j] == pytest.approx(1.5 * expected, abs=1e-5)


def test_blur_is_a_box_convolved_with_a_gaussian():
    line = np.random.default_rng(0).random(drawn_signs._WIDE)
    fine = 1 / 50  # pixels
    offset = np.arange(-12, 12, fine)
    for deviation, length in ((0.6, 1), (0.3, 3), (1.5, 2)):
        box = (np.abs(offset) <= length / 2) / length
        kernel = scipy.ndimage.gaussian_filter1d(box, deviation / fine, mode="constant", truncate=8)
        weights = np.interp(np.arange(-11, 12), offset, kernel)
        expected = np.convolve(line, weights / weights.sum(), "same")[drawn_signs._MARGIN:-drawn_signs._MARGIN]
        ours = drawn_signs._blur(np.float32([deviation]), np.float32([length]))[0] @ line
        assert ours[9:-9] == pytest.approx(expected[9:-9], abs=0.01)  # at the edges, np.convolve pads with zeros


def test_a_photo_is_resized_by_the_area_that_each_pixel_covers_and_back_by_linear_interpolation():
    line = np.random.default_rng(0).random(32)
    assert drawn_signs._area(32, 24) @ line == pytest.approx(line.repeat(3).reshape(24, 4).mean(axis=1))
    small = np.arange(24.0) ** 2
    theirs = np.interp((np.arange(32) + 0.5) * 0.75 - 0.5, np.arange(24), small)
    assert drawn_signs._bilinear(24, 32) @ small == pytest.approx(theirs)


def test_brightness_follows_gtsrbs_johnson_distribution():
    sample = drawn_signs._brightness(20_000, np.random.default_rng(0)).astype(float)
    johnson = scipy.stats.johnsonsb(0.747, 0.907, loc=7.099, scale=259.904)
    assert sample.max() <= 255
    assert scipy.stats.kstest(sample[sample < 254], lambda b: johnson.cdf(b) / johnson.cdf(254)).statistic < 0.015


def test_the_mean_brightness_of_the_signs_is_spread_as_in_that_distribution(drawn):
    means = drawn[0].mean(axis=(1, 2, 3))
    assert means.min() < 20 and means.max() > 180 and 70 < np.median(means) < 110


def test_sheet_and_set_are_written_from_the_command_line(call):
    status, _, err = call(drawn_signs, "--sheet", "sheet.png", "--write", "train.p", "--count", 2, "--seed", 5)
    assert (status, err) == (0, "All signs, with samples of each, are in sheet.png.\n86 drawn signs are in train.p.\n")
    assert Image.open("sheet.png").size > (500, 500)
    data = dataset.load("train.p")
    features, labels = drawn_signs.render(2, 5)
    assert np.array_equal(data.features, features) and np.array_equal(data.labels, labels) and data.tracks is None
    assert pickle.loads(Path("train.p").read_bytes()).keys() == {"features", "labels"}
    assert sorted(os.listdir()) == ["sheet.png", "train.p"]


@pytest.mark.parametrize("arguments, sentence", [
    ([], "choose --sheet PNG or --write PATH"),
    (["--sheet", "sheet.jpg"], "sheet.jpg must end in .png"),
    (["--sheet", "file/sheet.png"], "file/sheet.png cannot be written: Not a directory"),
    (["--sheet", "folder.png"], "folder.png cannot be written: Is a directory"),
    (["--write", "file"], "file already exists"),
    (["--write", "nowhere/train.p", "--count", "1"], "nowhere/train.p cannot be written: No such file"),
    (["--write", "train.p", "--count", "0"], "'0' is not a whole number from 1"),
    (["--write", "train.p", "--seed", "-1"], "'-1' is not a whole number"),
])
def test_a_mistake_is_reported_in_one_sentence_and_loses_nothing(arguments, sentence, call):
    Path("file").write_text("mine")
    Path("folder.png").mkdir()
    status, out, err = call(drawn_signs, *arguments)
    assert (status, out) == (2, "") and err.count("\n") == 1 and sentence in err
    assert sorted(os.listdir()) == ["file", "folder.png"] and Path("file").read_text() == "mine"


@pytest.mark.parametrize("arguments", [[], ["--data", "builtin"]])
@pytest.mark.slow
def test_the_lab_trains_on_drawn_signs_if_there_is_nothing_else_and_says_so(arguments, call, monkeypatch):
    monkeypatch.setattr(drawn_signs, "COUNT", 1)
    if arguments:
        Path("train.p").write_text("not asked for")
    status, _, err = call(train_feature_extraction, *arguments, "--epochs", 1)
    assert status == 0 and "43 signs that the lab draws, 1 of each class" in err
    assert ("Traffic signs: drawn by the lab (train.p is not here)." in err) == (not arguments)
    assert json.loads(Path("model/metrics.json").read_text())["validation"]["photos"] == 15


@pytest.mark.slow
def test_the_finished_layer_is_tested_on_photos_that_training_never_saw(call):
    features, labels = drawn_signs.render(1, seed=3)
    Path("train.p").write_bytes(pickle.dumps({"features": features, "labels": labels}))
    Path("test.p").write_bytes(pickle.dumps({"features": features[:10] ^ 1, "labels": labels[:10]}))  # nearly the same
    status, out, _ = call(train_feature_extraction, "--epochs", 40, "--batch-size", 8, "--test", "test.p")
    assert status == 0
    metrics = json.loads(Path("model/metrics.json").read_text())
    assert f"Test: 10 photos, loss {metrics['test']['loss']:.4f}, accuracy {metrics['test']['accuracy']:.1%}" in out
    training = set(splits.random_split(43)[0])
    seen = sum(i in training for i in range(10))
    assert metrics["test"]["photos"] == 10 and metrics["test"]["accuracy"] >= seen / 10  # it has memorised those
    assert f"Validation Accuracy = {metrics['validation']['accuracy']:.4f}" in out


def test_a_test_set_that_cannot_be_read_ends_the_run_before_training(call):
    Path("train.p").write_bytes(pickle.dumps({"features": np.zeros((2, 32, 32, 3), np.uint8), "labels": [0, 1]}))
    status, _, err = call(train_feature_extraction, "--test", "nowhere.p")
    assert status == 2 and "nowhere.p does not exist" in err and not Path("model").exists()


def test_a_result_that_cannot_be_written_does_not_cost_the_layer(call):
    Path("train.p").write_bytes(pickle.dumps({"features": np.zeros((2, 32, 32, 3), np.uint8), "labels": [0, 1]}))
    Path("model/metrics.json").mkdir(parents=True)
    status, _, err = call(train_feature_extraction, "--epochs", 1)
    assert status == 2 and "model/metrics.json cannot be written: Is a directory" in err
    assert Path("model/model.json").exists()
