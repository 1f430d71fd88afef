"""Writes pickles as Python 2 and its NumPy did, opcode by opcode: str and bytes both become BINSTRING."""

import struct

import numpy as np


def dump(value):
    """`value` (dicts, lists, str, int and arrays) as Python 2 pickled it, in protocol 2."""
    return b"\x80\x02" + _dump(value) + b"."


def npy(value):
    """The .npy file of one object, `value`, as Python 2's np.save wrote it."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117) + b"\n"
    array = np.array(value, object)
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\x80\x02" + _dump(array) + b"."


def _dump(value):
    if isinstance(value, dict):
        return b"}(" + b"".join(_dump(key) + _dump(item) for key, item in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(_dump, value)) + b"e"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_dump, value)) + b"t"
    if isinstance(value, (str, bytes)):
        raw = value.encode("latin1") if isinstance(value, str) else value
        return (b"U" + bytes([len(raw)]) if len(raw) < 256 else b"T" + struct.pack("<i", len(raw))) + raw
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if value is None:
        return b"N"
    dtype = value.dtype
    code, order = ("O8", "|") if dtype == object else (dtype.str[1:], dtype.str[0])
    described = (b"cnumpy\ndtype\n" + _dump((code, 0, 1)) + b"R"
                 + _dump((3, order, None, None, None, -1, -1, 63 if dtype == object else 0)) + b"b")
    fortran = value.ndim > 1 and value.flags.f_contiguous
    data = list(value.ravel()) if dtype == object else value.tobytes("F" if fortran else "C")
    return (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + _dump((0,)) + _dump("b") + b"tR("
            + _dump(1) + _dump(value.shape) + described + (b"\x88" if fortran else b"\x89") + _dump(data) + b"tb")
