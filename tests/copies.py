"""Writes small copies of GTSRB in the layouts that people hold.

Each photo has one colour, which says what it is: (class, track, frame) for training photos, (100, i, i) for validation photos
and (200, i, i) for test photos.
"""

import pickle
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

HEADER = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2"


def photo(path, colour, size=(50, 40)):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def dumped(features, labels, path="train.p", **more):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(pickle.dumps({"features": features, "labels": labels, **more}, 4))
    return path


def class_folders(images):
    """The authors' training photos of two classes, in the folder `images`: nine photos in three tracks."""
    for label, tracks in {0: 2, 14: 1}.items():
        rows = []
        for track in range(tracks):
            for frame in range(3):
                name = f"{track:05}_{frame:05}.ppm"
                photo(Path(images, f"{label:05}", name), (label, track, frame))
                rows.append(f"{name};50;40;5;5;44;34;{label}")
        Path(images, f"{label:05}", f"GT-{label:05}.csv").write_text("\r\n".join([HEADER + ";ClassId", *rows, ""]))


def test_photos(images, labels):
    """The authors' three test photos in the folder `images`, and the csv file of their labels in the folder `labels`."""
    for i in range(3):
        photo(Path(images, f"{i:05}.ppm"), (200, i, i))
    rows = [f"{i:05}.ppm;50;40;5;5;44;34" for i in range(3)]
    Path(images, "GT-final_test.test.csv").write_text("\r\n".join([HEADER, *rows, ""]))
    Path(labels).mkdir(parents=True, exist_ok=True)
    Path(labels, "GT-final_test.csv").write_text(
        "\r\n".join([HEADER + ";ClassId", *(f"{row};{40 + i}" for i, row in enumerate(rows)), ""]))


test_photos.__test__ = False  # pytest would take it for a test


def kaggles(folder):
    """Kaggle's copy: four training photos and one test photo."""
    rows = {"Train": [], "Test": []}
    for label in (3, 20):
        for frame in range(2):
            name = f"Train/{label}/{label:05}_00007_{frame:05}.png"
            photo(Path(folder, name), (label, 7, frame))
            rows["Train"].append(f"50,40,5,5,44,34,{label},{name}")
    photo(Path(folder, "Test/00000.png"), (200, 0, 0))
    photo(Path(folder, "Meta/0.png"), (255, 0, 0))
    rows["Test"].append("50,40,5,5,44,34,16,Test/00000.png")
    for part, lines in rows.items():
        Path(folder, f"{part}.csv").write_text(
            "\n".join(["Width,Height,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId,Path", *lines, ""]))


def courses(folder):
    """The course's three pickles: five training photos, two validation photos and three test photos."""
    for part, colours in {"train": [(label, 0, 0) for label in range(5)], "valid": [(100, i, i) for i in range(2)],
                          "test": [(200, i, i) for i in range(3)]}.items():
        features = np.tile(np.array(colours, np.uint8)[:, None, None], (1, 32, 32, 1))
        dumped(features, np.arange(len(colours)), Path(folder, f"{part}.p"))


def torchvisions(root):
    """What torchvision.datasets.GTSRB(root, download=True) leaves there, for both of its splits."""
    class_folders(Path(root, "gtsrb/GTSRB/Training"))
    test_photos(Path(root, "gtsrb/GTSRB/Final_Test/Images"), Path(root, "gtsrb"))


def zipped(folder, path):
    """Write the zip file `path` with all that is in `folder`."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(Path(folder).rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def strew_junk(folder):
    """Add what macOS and Windows leave in folders and zip files: __MACOSX, with a ._file for each file, Thumbs.db and so on."""
    folder = Path(folder)
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            for name in ("Thumbs.db", "desktop.ini", ".DS_Store"):
                Path(path, name).write_bytes(b"\0\5\26\7 not a photo")
        else:
            for shadow in (path.with_name(f"._{path.name}"), folder / "__MACOSX" / path.relative_to(folder)):
                shadow.parent.mkdir(parents=True, exist_ok=True)
                shadow.write_bytes(b"\0\5\26\7 not a photo")
