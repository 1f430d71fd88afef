"""Finds GTSRB's tracks, which a train.p does not name, from the order of its photos."""

import itertools

import numpy as np

FRAMES = 30  # photos in a track: frames of one physical sign, filmed while driving towards it

_MOST_TRACKS = 75  # in a class: class 2 has 75
_MOST_MISSING = 2  # photos in a class: class 33 lacks one, and a copy may have lost one more


def in_order(features, labels):
    """The tracks of photos in GTSRB's own order, class by class and track by track; None for any other order."""
    starts = np.flatnonzero(np.diff(labels, prepend=-1))
    if len(starts) != len(np.unique(labels)):
        return None
    tracks = np.empty_like(labels)
    within, between = [], []
    for start, end in zip(starts, [*starts[1:], len(labels)]):
        step = steps(features[start:end])
        number = track_numbers(step)
        if number is None:
            return None
        tracks[start:end] = 1000 * labels[start] + number
        within.extend(step[np.diff(number) == 0])
        between.extend(step[np.diff(number) != 0])
    # Without several tracks in any class nothing would show that there are tracks at all.
    # A shuffled class fits the lengths too, but then neighbours differ within tracks as much as between them.
    return tracks if between and np.mean(within) < np.mean(between) / 2 else None


def steps(features):
    """How much photo i + 1 differs from photo i, float32 [N - 1]: the mean absolute difference of their pixels' logarithms.

    Each photo's mean logarithm is subtracted first, which removes most of the effect of exposure. Without that, photos
    of a dark sign hardly differ from each other, or from those of the next dark sign.
    """
    logarithms = np.log(np.arange(256, dtype=np.float32) + 10)  # + 10, or the noise of black pixels would count
    photo = logarithms[features[:, ::2, ::2]].reshape(len(features), -1)
    photo -= photo.mean(axis=1, keepdims=True)
    return np.abs(np.diff(photo, axis=0)).mean(axis=1)


def track_numbers(step):
    """The track of each photo of a class, 0, 0, ..., 1, 1, ..., given how much neighbours differ; None if unknown.

    If photos are missing, the short tracks are chosen so that the ends of all tracks fall where neighbours differ most.
    """
    count = len(step) + 1
    missing = -count % FRAMES
    tracks = (count + missing) // FRAMES
    if missing > _MOST_MISSING or tracks > _MOST_TRACKS:
        return None
    # The last photos of a track also differ much, because the sign is near. But the first photos of the next track are
    # taken from far away and hardly differ. So a third of the next step is subtracted from each step. Tested on the first
    # eight tracks of each GTSRB class with any one photo removed: 0.25 to 0.4 of the step finds all tracks, 0.2 or 0.45 not.
    contrast = step - np.append(step[1:], 0) / 3
    end = FRAMES * np.arange(1, tracks) - 1  # the last photo of each track except the last track, if none is missing
    candidates = [end - np.sum([np.arange(1, tracks) > track for track in short], axis=0, dtype=int)
                  for short in itertools.combinations_with_replacement(range(tracks), missing)]
    return np.searchsorted(max(candidates, key=lambda end: contrast[end].sum()), np.arange(count))
