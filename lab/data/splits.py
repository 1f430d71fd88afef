"""Which photos to train on and which to hold out, and whether two sets of photos are the same."""

import hashlib

import numpy as np

from lab import files
from lab.files import BadInput


def random_split(count):
    """The lab's split of `count` photos: indices of the training and of the validation photos, int64 arrays.

    A third is held out at random, as by scikit-learn's train_test_split(test_size=0.33, random_state=0).
    """
    order = np.random.RandomState(0).permutation(count)
    held_out = int(np.ceil(0.33 * count))
    return order[held_out:], order[:held_out]


def track_split(tracks, path):
    """A split that keeps each track, that is, each physical sign, on one side: a third of each class's tracks held out.

    tracks: int64 [N], 1000 * label + number of the track in its class, as in Photos, or None.
    path: the source of the photos, for messages.

    Of the n tracks of a class, max(1, round(n / 3)) are held out. One seeded generator draws them, class by class, so the
    split is always the same. Returns the indices of the training and of the validation photos, ascending int64 arrays.
    Raises BadInput if tracks is None or a class has only one track.
    """
    if tracks is None:
        raise BadInput(f"{path}: no tracks found in the names or the order of the photos; use --split random")
    random = np.random.RandomState(0)
    held_out = []
    for label in np.unique(tracks // 1000):
        own = np.unique(tracks[tracks // 1000 == label])
        if len(own) < 2:
            raise BadInput(f"{path} has only one track of class {label}, but training and validation need one each: "
                           "use --split random")
        held_out += list(random.permutation(own)[:max(1, round(len(own) / 3))])
    validation = np.isin(tracks, held_out)
    return np.flatnonzero(~validation), np.flatnonzero(validation)


def check_apart(held_out, name, training):
    """Raise BadInput if 1% or more of the Photos `held_out` are byte for byte among those of `training`; tell of fewer.

    name: where the photos `held_out` come from, for messages.
    """
    known = set(_digests(training.features))
    shared = sum(digest in known for digest in _digests(held_out.features))
    count = len(held_out.features)
    sentence = f"{name}: {shared:,} of its {count:,} photos are byte for byte among the training photos"
    if 100 * shared >= count:
        raise BadInput(f"{sentence}, so they only test what was memorised: name other photos")
    if shared:
        files.notice(f"{sentence}.")


def _digests(features):
    """A digest of each photo: a list of bytes objects."""
    return [hashlib.sha256(photo).digest() for photo in features] if isinstance(features, np.ndarray) else features.digests


def identity(data, path, split="random", training=None):
    """A fingerprint of `data`, Photos read from `path` (None for drawn signs): {"name", "sha256"}.

    split, training: how the photos were split, and int64 [N], the rows to train on. These count where the photos in memory do
        not determine them: for a given split, and for photos in files, whose near copies another version of Pillow may find
        elsewhere.
    """
    digest = hashlib.sha256()
    if isinstance(data.features, np.ndarray):
        digest.update(data.features)
    else:  # read or resized when asked for
        digest.update(data.features.fingerprint.encode())
    digest.update(data.labels)
    if data.tracks is not None:  # they determine the split by tracks
        digest.update(data.tracks)
    if training is not None and (split == "given" or not isinstance(data.features, np.ndarray)):
        digest.update(training)
    return {"name": path.name if path else "builtin", "sha256": digest.hexdigest()}


def class_weights(labels, classes):
    """The weight of each class's photos, float32 [classes], with which each class counts the same: N / (classes * its photos).

    labels: int64 [N]. The mean weight over all photos is 1. (scikit-learn calls it "balanced"; from King and Zeng, "Logistic
    Regression in Rare Events Data", 2001.) A class without photos has the weight 0.
    """
    counts = np.bincount(labels, minlength=classes)
    return np.divide(len(labels), np.count_nonzero(counts) * counts, out=np.zeros(classes), where=counts > 0).astype(np.float32)
