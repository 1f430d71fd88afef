"""Reads pickled NumPy arrays without running any code from the file.

pickle.load calls whatever functions a file names, so a file from the internet can run any code. The lab's files
(bvlc-alexnet.npy, train.p) need six names, with which NumPy pickles arrays. This module replaces them by functions of its
own, which check every size against the bytes actually in the file. Any other name, and any pickle instruction that could
call or change something else, raises an error before it takes effect.

The reader is the standard library's Python unpickler with the dangerous instructions removed or replaced. (The C unpickler
allocates whatever size a file claims, and holds Python 2's byte strings twice.)
"""

import math
import os
import pickle
import struct

import numpy as np

from lab.files import BadInput, DiskError


def load(file, name, size=None):
    """The object pickled in the rest of the binary `file`: dicts, lists, tuples, numbers, strings and NumPy arrays.

    name: str, names the file in errors.
    size: the number of bytes in the rest of `file`, if they cannot be counted cheaply, as in a zip file; None counts them.

    Reads protocols 0 to 5, from Python 2 or 3 and any NumPy. Large arrays are not copied: they are read-only views of the
    bytes read. Python 2's `str` becomes bytes, but dict keys are always str.

    Raises BadInput if the pickle names anything but NumPy's array constructors, is damaged or is cut short, or has more
    than five million instructions.
    """
    try:
        bounded = _Bounded(file, size)
        return _Unpickler(bounded, bytes_in_file=bounded.left).load()
    except DiskError:
        raise
    except BadInput as error:
        raise BadInput(f"{name} {error}") from error
    except Exception as error:  # a damaged pickle can fail anywhere, with any error
        raise BadInput(f"{name} is damaged, cut short or not a pickle of arrays: get the file again") from error


class _Bounded:
    """A file that raises EOFError for a read past its end, before a buffer of that size is allocated."""

    def __init__(self, file, size):
        if size is None:
            start = file.tell()
            size = file.seek(0, os.SEEK_END) - start
            file.seek(start)
        self.left, self._file = size, file

    def read(self, count):
        if not 0 <= count <= self.left:
            raise EOFError
        self.left -= count
        data = self._file.read(count)
        if len(data) < count:  # the size that a zip file gives for its member is a claim
            raise EOFError
        return data

    def readline(self):
        line = self._file.readline()
        self.left -= len(line)
        return line


class _Dtype:
    """Stands in for numpy.dtype: only numbers, booleans and objects. `set_state` sets the byte order."""

    def __init__(self, code, align=False, copy=False):
        self._code, self._order = _text(code), "="
        if self._code not in _DTYPES:
            raise BadInput("holds an array of an unsupported type: get the file again from its publisher")

    def set_state(self, state):
        self._order = _text(state[1])

    def numpy(self):
        return np.dtype(self._code).newbyteorder(self._order)


_DTYPES = frozenset("b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 O O8".split())


def _set_array_state(array, state):
    """Call ndarray.__setstate__ after checking the claimed shape against the data."""
    *_, shape, dtype, fortran_order, data = state  # there may be a version number first
    dtype = dtype.numpy()
    if dtype.hasobject:  # np.save wraps a single object, such as a dict, in one
        if not (shape == () and len(data) == 1 and isinstance(data[0], dict)):
            raise BadInput("holds an array of objects where numbers belong, as NumPy makes of arrays whose shapes differ: save "
                           "those as a list, or get the file again from its publisher")
    elif math.prod(_shape(shape)) * dtype.itemsize != len(_bytes(data)):
        raise BadInput("holds an array whose shape does not match its data: get the file again")
    array.__setstate__((1, shape, dtype, bool(fortran_order), data))
    array.flags.writeable = False


def _reconstruct(subtype, shape, typecode):
    """numpy.core.multiarray._reconstruct: an array whose shape, dtype and data come later. The shape here is ignored."""
    return np.ndarray(0, np.uint8)


def _frombuffer(buffer, dtype, shape, order, axis_order=None):
    """numpy.core.numeric._frombuffer: a contiguous array in protocol 5."""
    array = np.frombuffer(_bytes(buffer), dtype.numpy())
    if order == "K":
        return array.reshape(_shape(shape)).transpose(axis_order)
    return array.reshape(_shape(shape), order=order)


def _scalar(dtype, data):
    """numpy.core.multiarray.scalar: one number."""
    return np.frombuffer(_bytes(data), dtype.numpy())[0]


def _encode(text, encoding):
    """_codecs.encode: bytes, as Python 3 pickles them in protocols that Python 2 reads."""
    return text.encode("latin1")


def _bytes(data):
    if not isinstance(data, bytes):
        raise TypeError
    return data


def _text(data):
    return data if isinstance(data, str) else data.decode("latin1")


def _shape(shape):
    if len(shape) > 32 or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise BadInput("holds an array of an impossible shape: get the file again")
    return shape


_ARRAY_TYPE = object()  # numpy.ndarray, which pickles name but never call

_CONSTRUCTORS = {
    ("numpy", "ndarray"): _ARRAY_TYPE,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}
for _core in ("numpy.core", "numpy._core"):  # before NumPy 2 and since
    _CONSTRUCTORS |= {
        (f"{_core}.multiarray", "_reconstruct"): _reconstruct,
        (f"{_core}.multiarray", "scalar"): _scalar,
        (f"{_core}.numeric", "_frombuffer"): _frombuffer,
    }

_PLAIN = (  # the instructions that only build numbers, strings, tuples, lists and dicts
    "PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT "
    "BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE "
    "BINUNICODE8 TUPLE EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 LIST EMPTY_LIST APPEND APPENDS EMPTY_DICT GET BINGET "
    "LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL")


_MOST_INSTRUCTIONS = 5_000_000  # train.p with a list of arrays and a list of one-hot lists has 3 million


class _Counted(dict):
    """The instructions by their codes. One byte of a pickle can take 100 in memory: so only so many may be looked up."""

    left = _MOST_INSTRUCTIONS

    def __getitem__(self, code):
        self.left -= 1
        if self.left < 0:
            raise BadInput("holds millions of objects where arrays belong: save the numbers as arrays")
        return super().__getitem__(code)


class _Unpickler(pickle._Unpickler):
    dispatch = {code: pickle._Unpickler.dispatch[code]
                for code in (getattr(pickle, name)[0] for name in _PLAIN.split())}

    def __init__(self, file, bytes_in_file):
        super().__init__(file, encoding="bytes")
        self.dispatch = _Counted(self.dispatch)
        self._allowance = 2 * bytes_in_file  # protocol 2 spends an array's bytes twice: to encode and to build

    def spend(self, data):
        """Charge `data` to the allowance: a small file could fill the memory by building arrays from the same bytes."""
        self._allowance -= len(data)
        if self._allowance < 0:
            raise BadInput("claims more array data than the file holds: get the file again from its publisher")

    def find_class(self, module, name):
        try:
            return _CONSTRUCTORS[module, name]
        except KeyError:
            shown = f"{module}.{name}".encode("unicode_escape").decode()[:80]
            raise BadInput(f"asks to call {shown}, which no file of arrays needs: none of its code was run; do not "
                           "trust the file, and get it again from its publisher") from None

    def load_reduce(self):
        arguments = self.stack.pop()
        constructor = self.stack[-1]
        if not any(constructor is known for known in _CONSTRUCTORS.values()):
            raise BadInput("calls something other than an array constructor: do not trust the file")
        self.spend(arguments[0] if constructor in (_encode, _frombuffer) else b"")
        self.stack[-1] = constructor(*arguments)
    dispatch[pickle.REDUCE[0]] = load_reduce

    def load_build(self):
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, np.ndarray):
            self.spend(state[-1])
            _set_array_state(target, state)
        elif isinstance(target, _Dtype):
            target.set_state(state)
        else:
            raise BadInput("sets the state of something other than an array: do not trust the file")
    dispatch[pickle.BUILD[0]] = load_build

    def load_bytearray8(self):
        size, = struct.unpack("<Q", self.read(8))
        self.append(self.read(size))  # bytes are enough: the arrays are read-only
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def load_setitem(self):
        value = self.stack.pop()
        key = self.stack.pop()
        self.set_items([key, value])
    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self):
        items = self.pop_mark()
        self.set_items(items)
    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_dict(self):
        items = self.pop_mark()
        self.append({})
        self.set_items(items)
    dispatch[pickle.DICT[0]] = load_dict

    def set_items(self, items):
        """Only string keys are allowed: hashing a key nested a million deep would crash the interpreter."""
        for key, value in zip(items[::2], items[1::2]):
            if not isinstance(key, (str, bytes)):
                raise BadInput("holds a dict whose keys are not strings: get the file again from its publisher")
            self.stack[-1][_text(key)] = value
