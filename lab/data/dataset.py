"""The front door to the photos: whatever holds them, `load` finds the reader for it, and `split` holds some out."""

import numpy as np

from lab import files
from lab.data import gtsrb
from lab.data.record import Photos
from lab.data.splits import check_apart, random_split, track_split
from lab.files import BadInput

def load(path, part="train", names=None, size=None, cache=None, skip_bad=False, class_names=None):
    from lab.data import drawn_signs
    return gtsrb.load(path, part, skip_bad) if path else drawn_signs.load()


def split(data, how, path):
    """Split `data`, Photos: the photos, and the indices of those for training and of those for validation, int64 arrays.

    how: "random", the lab's split; "track"; or "given": then the photos of valid.p are added to the end of `data`, to
        validate with.
    path: the copy that the photos come from, as in `load`; None for drawn signs.

    Raises BadInput for a single photo, for a valid.p that is not there or shares photos with `data`, or if `track_split`
    raises it.
    """
    valid = path and gtsrb.valid(path)
    if how == "given":
        if not valid:
            raise BadInput(f"{path or 'builtin'} comes without a valid.p, on which --split given validates: use --split random "
                           "or --split track")
        given = load(path, "valid")
        check_apart(given, valid, data)
        rows = np.arange(len(data.labels) + len(given.labels))
        data = Photos(np.concatenate([data.features, given.features]), np.concatenate([data.labels, given.labels]),
                      data.class_names, None)
        return data, rows[:-len(given.labels)], rows[-len(given.labels):], how
    if valid:
        files.notice(f"{valid} is there and not used: --split given validates on it.")
    if how == "track":
        return data, *track_split(data.tracks, path or "builtin"), how
    training, validation = random_split(len(data.labels))
    if not len(training):
        raise BadInput(f"{path} holds one photo, but training and validation need one each: use more photos")
    if data.tracks is not None:
        files.notice("The validation accuracy will be optimistic: the random split puts frames of the same track, near copies "
                     "of one sign, on both sides. --split track holds out whole tracks.")
    elif path:
        files.notice("If these photos include several frames of one sign, as GTSRB's do, the accuracy of the random split is "
                     "optimistic; their order does not show which frames belong together.")
    return data, training, validation, how or "random"
