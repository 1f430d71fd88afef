"""Finds, reads and checks AlexNet's weights, without running code from a file and without fetching.

Weights are a dict {"conv1": (W, b), ..., "fc8": (W, b)} of float32 arrays with the shapes in SHAPES. They come from

- the published `bvlc-alexnet.npy`: a .npy whose only element is such a dict, pickled, or one with a dict {"weights": W,
  "biases": b} per layer, as caffe-tensorflow writes it;
- an .npz of `conv1_W`, `conv1_b`, ..., `fc8_W`, `fc8_b`: float32 arrays, or the compact form in builtin_weights/README.md;
- Caffe's `bvlc_alexnet.caffemodel` and the ONNX model zoo's `bvlcalexnet-*.onnx`, which hold the weights that were published;
- "builtin": the compact file that comes with the lab.
"""

import hashlib
import json
import math
import re
import shlex
import warnings
import zipfile
import zlib

import numpy as np

from lab import files, safe_pickle
from lab.files import BadInput, DiskError, notice, shorten
from lab.network import protobuf_weights

# From Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks", NIPS 2012, as in
# Caffe's BVLC AlexNet. Kernels are [height, width, inputs per group, outputs]; there is one bias per output.
SHAPES = {
    "conv1": (11, 11, 3, 96),
    "conv2": (5, 5, 48, 256),
    "conv3": (3, 3, 256, 384),
    "conv4": (3, 3, 192, 384),
    "conv5": (3, 3, 192, 256),
    "fc6": (9216, 4096),
    "fc7": (4096, 4096),
    "fc8": (4096, 1000),
}

FORMATS = ".npy, .npz, .caffemodel or .onnx"
# The names of the published weights, in the order in which "auto" prefers them: what is read fastest comes first.
PUBLISHED = ("bvlc-alexnet.npy", "bvlc_alexnet.npy",  # the lab's, and the University of Toronto's
             *(f"bvlcalexnet-{opset}.onnx" for opset in (12, 9, 8, 7, 6, 3)),  # the ONNX model zoo's: all hold the same values
             "bvlc_alexnet.caffemodel")  # Caffe's
BUILTIN = files.HERE / "builtin_weights" / "compact-alexnet.npz"
EDITION_1 = "e46c7faa203953fea04fd4b920cf572fa0d3f690d6296363fe0aea9d8cf6eb6a"  # SHA-256 of the built-in file before this one

_UNKNOWN_BIAS = np.float32(-1e4)  # exp(-1e4) is 0 in float32, so a class that the weights do not know gets probability 0
_LARGEST_LAYER = 9216 * 4096
_LARGEST_NPZ = 250_000_000  # unpacked bytes allowed in an .npz: all 60,965,224 parameters in float32, and the headers

# How files of PyTorch are recognised. The names come first in any of them: a pickle, a .npy, an .npz, torch.save's zip, ONNX.
_HEAD = 1 << 16  # bytes
_STATE_DICT = re.compile(rb"(features|classifier)\.\d+\.(weight|bias)")
_PROTOTXT = re.compile(rb"^[ \t]*layers?[ \t]*\{", re.MULTILINE)
_TORCH_SAVE = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # before PyTorch 1.6: the pickle of 0x1950a86a20f9469cfc6c


def aligned_empty(shape, dtype):
    """An array of arbitrary values that starts at a multiple of 64 bytes: TensorFlow copies what it is given unless it does."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start:start + size].view(dtype).reshape(shape)


def find(source="auto"):
    """The Path of the weights file that `source` names.

    "builtin" is the file that comes with the lab. "auto" is a published file, the first of PUBLISHED that is in the working
    directory, else the first that is beside the code, else the built-in file; a line on stderr says which, and who published
    it if `record` has noted that. Anything else is a path.
    """
    if source == "builtin":
        return BUILTIN
    if source != "auto":
        return files.check(source, f"AlexNet weights ({FORMATS})")
    path = files.find(PUBLISHED)
    if path:
        known = _read_record(path)
        notice(f"AlexNet weights: {path}" + (f" ({known['publisher']}, verified by {known['digest']})" if known else ""))
    else:
        notice(f"AlexNet weights: the built-in ones ({PUBLISHED[0]} is not here).")
    return path or BUILTIN


def find_trained(trained):
    """The Path of the weights that a model was trained on, among those that "auto" looks for; None if they are not here.

    trained: the model's `identity` of its weights, or {"name", "sha256"} of their file. Files of the same name are tried first.
    """
    if trained["name"] == "builtin":
        return BUILTIN
    names = dict.fromkeys([trained["name"], *PUBLISHED])
    paths = [path for name in names for place in files.PLACES if (path := place / name).is_file()]
    if len(paths) < 2:
        return next(iter(paths), None)
    known = {path: _read_record(path) or {} for path in paths}
    paths.sort(key=lambda path: known[path].get("fingerprint") != trained.get("fingerprint"))
    return next((path for path in paths if _is_trained(path, trained)), None)


def _is_trained(path, trained):
    """Whether the weights file `path` is the one that `trained` describes."""
    try:
        return (files.sha256(path) == trained["sha256"] if "sha256" in trained else
                identity(path, load(path))["fingerprint"] == trained["fingerprint"])
    except BadInput:
        return False


def load(source="auto"):
    """The weights from `source`, as in `find`: {"conv1": (W, b), ..., "fc8": (W, b)} in float32.

    Raises BadInput for a file that is missing, is damaged, does not hold AlexNet's weights, or tries to run code.
    """
    path = files.check(find(source), f"AlexNet weights ({FORMATS})")
    with files.reading(path) as file:
        head = file.read(_HEAD)
        file.seek(0)
        if name := _STATE_DICT.search(head):
            raise BadInput(f"{path} is torchvision's ({name[0].decode()} and so on), whose networks are built differently from "
                           f"the lab's AlexNet: use {PUBLISHED[0]}")
        if head.startswith(b"\x93NUMPY"):
            weights = _read_npy(file, path)
        elif head.startswith(b"PK"):
            weights = _read_npz(file, path)
        elif head.startswith(_TORCH_SAVE):
            raise _written_by_pytorch(path)
        else:
            _refuse_containers(head, path)
            weights = protobuf_weights.read(file, path, SHAPES)
            if weights is None:
                raise BadInput(f"{path} is not a {FORMATS} file, whatever its name: use {PUBLISHED[0]}")
    check(weights, path)
    return weights


def identity(path, weights):
    """What `weights`, which `load` has read from the file `path` (Path), are: {"name": str, "fingerprint": str}.

    The name is "builtin" or the file's. The fingerprint is `fingerprint(weights)`, the same for every file with these arrays.
    Weights that are stored as factors have the SHA-256 of their file instead, 64 hexadecimal digits too: the last bits of a
    product depend on the processor.

    It is never taken from a `record`. Raises BadInput if the record of an unchanged file names another fingerprint.
    """
    identity = {"name": "builtin" if path == BUILTIN else path.name,
                "fingerprint": files.sha256(path) if _has_factors(path) else fingerprint(weights)}
    known = _read_record(path)
    if known and known["fingerprint"] != identity["fingerprint"]:
        raise BadInput(f"{path} does not hold what was fetched and verified ({_record_path(path)} names another fingerprint): "
                       "delete both files and fetch the weights again")
    return identity


def fingerprint(weights):
    """A fingerprint of the arrays of `weights`, whichever file they came from: SHA-256, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for layer in SHAPES:
        for array in weights[layer]:
            digest.update(np.ascontiguousarray(array, "<f4"))
    return digest.hexdigest()


def record(path, publisher, digest, weights):
    """Note in a small file, NAME.json beside the weights file `path`, that it is verified, and the identity of `weights`.

    publisher: str, who published the file. digest: "SHA-256" or "SHA-1", the kind of published digest that it matches.

    The note holds for as long as the file keeps its size and its time of modification. It is for the user's information, and
    shows a later change of the file that kept both: which weights a layer fits is decided by the arrays (see `identity`).
    """
    _record_path(path).unlink(missing_ok=True)
    status = path.stat()
    files.write_json(_record_path(path), {"publisher": publisher, "digest": digest, "size": status.st_size,
                                          "mtime_ns": status.st_mtime_ns, **identity(path, weights)})


def _record_path(path):
    return path.with_name(f"{path.name}.json")


def _read_record(path):
    """What `record` has noted of the file `path`, a dict; None if there is nothing, or the file has changed since."""
    try:
        with _record_path(path).open("rb") as file:
            known = json.loads(file.read(10_000))
        status = path.stat()
        valid = ((known["size"], known["mtime_ns"]) == (status.st_size, status.st_mtime_ns)
                 and all(len(known[key]) <= 80 and known[key].isprintable() for key in ("publisher", "digest", "fingerprint")))
        return known if valid else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _has_factors(path):
    """Whether the weights file `path` holds layers as products of two factors, as in builtin_weights/README.md."""
    with files.reading(path) as file:
        if file.read(2) != b"PK":
            return False
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith("_U.npy") for name in archive.namelist())


def check(weights, name="weights"):
    """Raise BadInput unless `weights` has exactly the layers, shapes and dtype of SHAPES, and only finite values."""
    if not isinstance(weights, dict) or weights.keys() != SHAPES.keys():
        layers = sorted(map(str, weights)) if isinstance(weights, dict) else type(weights).__name__
        raise BadInput(f"{name}: the layers must be {', '.join(SHAPES)}, not {shorten(layers)}")
    for layer, shape in SHAPES.items():
        pair = weights[layer]
        if not isinstance(pair, (tuple, list, np.ndarray)) or len(pair) != 2:
            raise BadInput(f"{name}: {layer} must be a pair of arrays, (weights, biases)")
        for kind, array, needed in zip(("weights", "biases"), pair, (shape, shape[-1:])):
            if not isinstance(array, np.ndarray):
                raise BadInput(f"{name}: {layer} {kind} must be an array, not {type(array).__name__}")
            if array.shape != needed:
                raise BadInput(f"{name}: {layer} {kind} have shape {shorten(array.shape)}, but AlexNet's have {needed}")
            if array.dtype != np.float32:
                raise BadInput(f"{name}: {layer} {kind} are {array.dtype}, but AlexNet's are float32")
            if not (np.isfinite(array.min()) and np.isfinite(array.max())):  # if any value is NaN, both are
                raise BadInput(f"{name}: {layer} {kind} contain NaN or infinite values")


def known_classes(weights):
    """How many of the 1000 classes `weights` know: 202 for the built-in weights, all for the published ones."""
    return int(np.count_nonzero(weights["fc8"][1] > _UNKNOWN_BIAS))


def warn_of_unknown_classes(weights):
    """Print a line on stderr if `weights` do not know all 1000 classes."""
    known = known_classes(weights)
    if known < SHAPES["fc8"][1]:
        notice(f"These weights know {known} of the 1000 classes: the others get probability 0.")


def _refuse_containers(head, path):
    """Raise BadInput if `head`, the first bytes of a file, is that of a file in which or beside which the weights may be."""
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        raise BadInput(f"{path} is a Git LFS pointer, a few lines of text in place of the weights: run `git lfs pull` in its "
                       "repository, or get the file from another address")
    if _PROTOTXT.search(head):
        raise BadInput(f"{path} is a .prototxt, Caffe's description of a network, which has no weights: use "
                       f"{protobuf_weights.CAFFE}")
    if head.startswith(b"\x89HDF"):
        raise BadInput(f"{path} is an HDF5 file, which the lab does not read: use {protobuf_weights.CAFFE}")
    unpacked, name = head, shlex.quote(str(path))
    if head.startswith(b"\x1f\x8b"):
        try:
            unpacked = zlib.decompressobj(wbits=31).decompress(head, _HEAD)
        except zlib.error as error:
            raise BadInput(f"{path} is a damaged .gz file: get it again") from error
    if unpacked[257:262] == b"ustar":
        raise BadInput(f"{path} is an archive (.tar or .tar.gz): unpack it with `tar xf {name}`, and use the .onnx or "
                       ".caffemodel in it")
    if unpacked is not head:
        raise BadInput(f"{path} is compressed (.gz): unpack it with `gunzip -c {name} > {name}.unpacked`, and use that file")


def _written_by_pytorch(path):
    return BadInput(f"{path} was written by PyTorch's torch.save, which the lab does not read: use {PUBLISHED[0]}")


def _read_npy(file, path):
    """The layers in the dict pickled in a .npy, as np.save writes it."""
    shape, _, dtype = _read_header(file, path)
    if shape != () or dtype != object:
        raise BadInput(f"{path} holds an array of shape {shorten(shape)} and dtype {dtype}, not AlexNet's layers")
    array = safe_pickle.load(file, path)
    if not (isinstance(array, np.ndarray) and array.shape == () and isinstance(array.item(), dict)):
        raise BadInput(f"{path} does not hold a dict of AlexNet's layers: get the weights again")
    kinds = "weights", "biases"
    return {layer: [pair[kind] for kind in kinds] if isinstance(pair, dict) and pair.keys() == set(kinds) else pair
            for layer, pair in array.item().items()}


def _read_npz(file, path):
    """The layers in an .npz, expanded if they are compact."""
    try:
        with zipfile.ZipFile(file) as archive:
            if any(name.endswith("/data.pkl") for name in archive.namelist()):
                raise _written_by_pytorch(path)
            if sum(member.file_size for member in archive.infolist()) > _LARGEST_NPZ:
                raise BadInput(f"{path} would unpack to more bytes than AlexNet's weights: use {PUBLISHED[0]}")
            arrays = {member.filename.removesuffix(".npy"): _read_member(archive, member, path)
                      for member in archive.infolist()}
    except BadInput:
        raise
    except Exception as error:  # a damaged zip can fail anywhere, with any error
        raise BadInput(f"{path} is damaged or cut short: get the weights again") from error
    with np.errstate(all="ignore"):  # `check` reports NaN and infinite values
        return _expand(arrays, path)


def _read_member(archive, member, path):
    """One array of an .npz. (np.load would allocate whatever size the array's header claims.)"""
    name = f"{path}: {shorten(member.filename)}"
    with archive.open(member) as file:
        shape, fortran_order, dtype = _read_header(file, name)
        if dtype.kind not in "iuf":
            raise BadInput(f"{name} holds {shorten(dtype)} where numbers belong: get the weights again")
        if math.prod(shape) * dtype.itemsize != member.file_size - file.tell():
            raise BadInput(f"{name} holds an array whose shape, {shorten(shape)}, does not match its data: get the "
                           "weights again")
        return np.frombuffer(file.read(), dtype).reshape(shape, order="F" if fortran_order else "C")


def _read_header(file, name):
    """Shape, Fortran order and dtype from the header of a .npy; leaves `file` at the data."""
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.lib.format.read_array_header_1_0(file)
    except DiskError:
        raise
    except Exception as error:  # the header is Python source: a damaged one can fail with almost any error
        raise BadInput(f"{name} has no valid .npy header: get the weights again") from error


def _expand(arrays, path):
    """The weights from the arrays of an .npz, each stored as it is or in the compact form.

    A compact array is int8, with a float32 scale per entry of its last axis. fc6 and fc7 may be the product of two factors,
    and fc8 may have only the columns of `class_index`. Raises BadInput, before it allocates memory, for arrays that do not
    fit together.
    """
    def array(name):
        if name not in arrays:
            raise BadInput(f"{path} lacks {name}: it holds {shorten(', '.join(arrays))}, which are not AlexNet's weights")
        return arrays[name]

    def matrix(name):
        values = array(name)
        if f"{name}_scale" not in arrays:
            return values
        scale = arrays[f"{name}_scale"]
        if (values.dtype != np.int8 or scale.dtype != np.float32 or scale.shape != values.shape[-1:]
                or values.size > _LARGEST_LAYER):
            raise BadInput(f"{path}: {name} and {name}_scale do not fit together")
        return values * scale

    weights = {}
    for layer, shape in SHAPES.items():
        W, b = matrix(f"{layer}_W"), array(f"{layer}_b")
        if f"{layer}_U" in arrays:
            U = matrix(f"{layer}_U")
            if W.ndim != 2 or U.ndim != 2 or U.shape[1] != W.shape[0] or (U.shape[0], W.shape[1]) != shape:
                raise BadInput(f"{path}: {layer}_U {shorten(U.shape)} times {layer}_W {shorten(W.shape)} is not {shape}")
            W = np.matmul(U, W, out=aligned_empty(shape, np.result_type(U, W)))
        weights[layer] = W, b
    if "class_index" in arrays:
        weights["fc8"] = _spread(*weights["fc8"], arrays["class_index"], path)
    return weights


def _spread(W, b, classes, path):
    """fc8 with all 1000 columns, from the columns of the known `classes`; the others get probability 0."""
    inputs, outputs = SHAPES["fc8"]
    known = len(classes) if classes.ndim == 1 and classes.dtype.kind in "iu" else -1
    if W.shape != (inputs, known) or b.shape != (known,) or len(np.intersect1d(classes, range(outputs))) != known:
        raise BadInput(f"{path}: class_index does not fit fc8_W {shorten(W.shape)} and fc8_b {shorten(b.shape)}")
    all_W, all_b = np.zeros((inputs, outputs), np.float32), np.full(outputs, _UNKNOWN_BIAS)
    all_W[:, classes], all_b[classes] = W, b
    return all_W, all_b
