"""Reads pickled NumPy arrays without running anything that the file says.

pickle.load calls whatever functions a file names, so a file from the internet can do what its author likes. The files of
the lab (bvlc-alexnet.npy, train.p) need six names, all NumPy's way to say "here is an array". Those six are answered by
functions of this module, which check every size against the bytes that are really there; any other name, and every
pickle instruction that could call or change anything else, ends the reading before it takes effect.

The reader is the standard library's own Python unpickler with the dangerous instructions taken out or replaced. (The C
one takes memory for sizes that a file merely claims, and holds Python 2's byte strings twice.)
"""

import math
import os
import pickle
import struct

import numpy as np

from lab.files import BadInput


def load(file, name):
    """The object pickled in the rest of the binary `file`: dicts, lists, tuples, numbers, strings and NumPy arrays.

    `name` (str) names the file in errors. Protocols 0 to 5, written by Python 2 or 3, under old or new NumPy. Arrays
    are read-only views of the bytes read: no large one is copied. Python 2's `str` becomes bytes, but dict keys are always str.

    Raises BadInput when the pickle names anything but NumPy's array constructors, is damaged or is cut short.
    """
    try:
        bounded = _Bounded(file)
        return _Unpickler(bounded, bytes_in_file=bounded.left).load()
    except BadInput as error:
        raise BadInput(f"{name} {error}") from error
    except Exception as error:  # a damaged pickle can fail in any of the reader's instructions, in any way
        raise BadInput(f"{name} is damaged, cut short or no pickle of arrays: get the file again") from error


class _Bounded:
    """A file that refuses to read more than it holds, before a buffer of the claimed size is made."""

    def __init__(self, file):
        start = file.tell()
        self.left = file.seek(0, os.SEEK_END) - start
        file.seek(start)
        self._file = file

    def read(self, count):
        if not 0 <= count <= self.left:
            raise EOFError
        self.left -= count
        return self._file.read(count)

    def readline(self):
        line = self._file.readline()
        self.left -= len(line)
        return line


class _Dtype:
    """Stands in for numpy.dtype: numbers, truth values and objects only. Byte order arrives by `set_state`."""

    def __init__(self, code, align=False, copy=False):
        self._code, self._order = _text(code), "="
        if self._code not in _DTYPES:
            raise BadInput("holds an array of a type that is no number: get the file from its publisher again")

    def set_state(self, state):
        self._order = _text(state[1])

    def numpy(self):
        return np.dtype(self._code).newbyteorder(self._order)


_DTYPES = frozenset("b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 O O8".split())


def _set_array_state(array, state):
    """What ndarray.__setstate__ does, after a check of the claimed shape against the data."""
    *_, shape, dtype, fortran_order, data = state  # a version number may precede them
    dtype = dtype.numpy()
    if dtype.hasobject:  # np.save wraps its one object in such an array
        if not (shape == () and len(data) == 1 and isinstance(data[0], dict)):
            raise BadInput("holds an array of objects where numbers belong: get the file from its publisher again")
    elif math.prod(_shape(shape)) * dtype.itemsize != len(_bytes(data)):
        raise BadInput("claims an array of another size than the data in it: get the file again")
    array.__setstate__((1, shape, dtype, bool(fortran_order), data))
    array.flags.writeable = False


def _reconstruct(subtype, shape, typecode):
    """numpy.core.multiarray._reconstruct: an array whose shape, dtype and data come later. The shape here is ignored."""
    return np.ndarray(0, np.uint8)


def _frombuffer(buffer, dtype, shape, order, axis_order=None):
    """numpy.core.numeric._frombuffer, by which protocol 5 says a contiguous array."""
    array = np.frombuffer(_bytes(buffer), dtype.numpy())
    if order == "K":
        return array.reshape(_shape(shape)).transpose(axis_order)
    return array.reshape(_shape(shape), order=order)


def _scalar(dtype, data):
    """numpy.core.multiarray.scalar: one number."""
    return np.frombuffer(_bytes(data), dtype.numpy())[0]


def _encode(text, encoding):
    """_codecs.encode, by which Python 3 writes bytes for Python 2 to read."""
    return text.encode("latin1")


def _bytes(data):
    if not isinstance(data, bytes):
        raise TypeError
    return data


def _text(data):
    return data if isinstance(data, str) else data.decode("latin1")


def _shape(shape):
    if len(shape) > 32 or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise BadInput("claims an array of an impossible shape: get the file again")
    return shape


_ARRAY_TYPE = object()  # numpy.ndarray, which is named but never called

_CONSTRUCTORS = {
    ("numpy", "ndarray"): _ARRAY_TYPE,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}
for _core in ("numpy.core", "numpy._core"):  # before and since NumPy 2
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


class _Unpickler(pickle._Unpickler):
    dispatch = {code: pickle._Unpickler.dispatch[code]
                for code in (getattr(pickle, name)[0] for name in _PLAIN.split())}

    def __init__(self, file, bytes_in_file):
        super().__init__(file, encoding="bytes")
        self._allowance = 2 * bytes_in_file  # each array's data, and the string that protocol 2 keeps it in

    def spend(self, data):
        """Arrays made again and again from the same bytes of a small file could fill the memory."""
        self._allowance -= len(data)
        if self._allowance < 0:
            raise BadInput("holds more data in its arrays than bytes: get the file from its publisher again")

    def find_class(self, module, name):
        try:
            return _CONSTRUCTORS[module, name]
        except KeyError:
            shown = f"{module}.{name}".encode("unicode_escape").decode()[:80]
            raise BadInput(f"asks to call {shown}, which no file of arrays needs: nothing of it was run, do not trust "
                           "the file and get it from its publisher again") from None

    def load_reduce(self):
        arguments = self.stack.pop()
        constructor = self.stack[-1]
        if not any(constructor is known for known in _CONSTRUCTORS.values()):
            raise BadInput("calls something that is no array constructor: do not trust the file")
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
            raise BadInput("sets the state of something that is no array: do not trust the file")
    dispatch[pickle.BUILD[0]] = load_build

    def load_bytearray8(self):
        size, = struct.unpack("<Q", self.read(8))
        self.append(self.read(size))  # bytes will do: the arrays are read-only
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
        """Text keys only: hashing what a file has nested a million deep would crash the interpreter."""
        for key, value in zip(items[::2], items[1::2]):
            if not isinstance(key, (str, bytes)):
                raise BadInput("holds a dict whose keys are no names: get the file from its publisher again")
            self.stack[-1][_text(key)] = value
