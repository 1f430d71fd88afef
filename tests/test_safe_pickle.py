"""Pickled arrays are read whichever version wrote them, and no code in a pickle is ever run."""

import datetime
import io
import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest
import python2
from hostile import RunsCode

from lab import safe_pickle
from lab.files import BadInput

ARRAYS = {
    "features": np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4),
    "weights": np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
    "labels": np.array([3, 1, 2], np.int64),
    "big-endian": np.array([1, 2], ">i4"),
    "flags": np.array([True, False]),
    "pair": [np.ones((200, 2), np.float32), 7],
}


def load(data):
    return safe_pickle.load(io.BytesIO(data), "the file")


def assert_equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key in theirs:
        np.testing.assert_equal(ours[key], theirs[key])
        if isinstance(theirs[key], np.ndarray):
            assert ours[key].dtype.newbyteorder("=") == theirs[key].dtype.newbyteorder("=")


@pytest.mark.parametrize("numpy_name", [b"numpy.core", b"numpy._core"])
@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_and_both_spellings_of_numpy_give_the_same_arrays(protocol, numpy_name):
    data = pickle.dumps(ARRAYS, protocol)
    for name in (b"numpy.core", b"numpy._core"):  # a name follows its length, or is a line
        for module in (b".multiarray", b".numeric"):
            data = data.replace(bytes([len(name + module)]) + name + module,
                                bytes([len(numpy_name + module)]) + numpy_name + module)
            data = data.replace(b"c" + name + module + b"\n", b"c" + numpy_name + module + b"\n")
    assert numpy_name + b".multiarray" in data or numpy_name + b".numeric" in data
    if protocol >= 4:  # the frames' lengths are wrong now, and frames are optional
        data = unframed(data)
    assert_equal(load(data), ARRAYS)


def unframed(data):
    """`data` without its FRAME instructions: one byte, then a length of 8 bytes, here always below 65536."""
    while (start := data.find(b"\x95")) >= 0 and data[start + 3:start + 9] == bytes(6):
        data = data[:start] + data[start + 9:]
    return data


def test_frames_are_read():
    assert_equal(load(pickle.dumps(ARRAYS, 4)), ARRAYS)


def test_python_2s_strings_are_read():
    assert_equal(load(python2.dump(ARRAYS)), ARRAYS)


def test_arrays_are_views_of_the_bytes_read():
    data = pickle.dumps(np.zeros(10_000_000, np.uint8), 4)
    tracemalloc.start()
    array = load(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 11_000_000
    assert not array.flags.writeable


def instructions(*parts):
    return b"\x80\x04" + b"".join(parts) + b"."


TOUCH = b"U\x0ctouch pwned!"

ATTACKS = {
    "os.system by a call": pickle.dumps({"features": RunsCode(os.system, "touch pwned")}, 2),
    "os.system, protocol 4": pickle.dumps([RunsCode(os.system, "touch pwned")], 4),
    "os.system, protocol 0": pickle.dumps([RunsCode(os.system, "touch pwned")], 0),
    "eval": pickle.dumps(RunsCode(eval, "open('pwned', 'w')")),
    "inside an object array": pickle.dumps(np.array([RunsCode(os.system, "touch pwned")], object)),
    "as an array's dtype": pickle.dumps(RunsCode(np.ndarray, (1,), RunsCode(os.system, "touch pwned"))),
    "an old-style instance": instructions(b"(", TOUCH, b"iposix\nsystem\n"),
    "an object": instructions(b"(cposix\nsystem\n", TOUCH, b"o"),
    "a new-style instance": instructions(b"cposix\nsystem\n", TOUCH, b"\x85\x81"),
    "an extension code": instructions(b"\x82\x01"),
    "a persistent id": instructions(b"Ppwned\n"),
    "a name with a dot in it": instructions(b"\x8c\x05numpy\x8c\x0ectypeslib.load\x93", TOUCH, b"\x85R"),
    "numpy.load of another file": instructions(b"cnumpy\nload\n", TOUCH, b"\x85R"),
    "a call of something that is not a function": instructions(b"U\x01a", b")R"),
    "a call of the array type": instructions(b"cnumpy\nndarray\n", b"K\x01\x85R"),
    "a new state for a constructor": instructions(b"cnumpy\ndtype\n", b"}U\x08_numbersK\x01sb"),
    "another class": pickle.dumps(datetime.date(2016, 10, 1)),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_code_in_a_pickle_is_run(attack):
    with pytest.raises(BadInput, match="^the file .*"):
        load(ATTACKS[attack])
    assert os.listdir() == []


def test_the_refusal_names_what_the_file_asked_for():
    with pytest.raises(BadInput, match="asks to call posix.system, .*none of its code was run"):
        load(ATTACKS["os.system by a call"])


def array_state(shape, data, dtype=b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"):
    reconstruct = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + shape + b"U\x01btR"
    return instructions(reconstruct, b"(K\x01", shape, dtype, b"\x89", data, b"tb")


ABSURD = {
    "an array's shape": array_state(b"J\xff\xff\xff\x7f\x85", b"U\x04abcd"),
    "a shape whose size overflows": array_state(b"\x8a\x08" + b"\0" * 4 + b"\1\0\0\0" + b"\x8a\x08" + b"\0" * 4
                                                + b"\1\0\0\0\x86", b"U\x00"),
    "a negative shape": array_state(b"J\xff\xff\xff\xff\x85", b"U\x04abcd"),
    "an array of nothing": array_state(b"J\xff\xff\xff\x7f\x85", b"U\x00", b"cnumpy\ndtype\nU\x02V0K\x00K\x01\x87R"),
    "bytes": instructions(b"\x8e", struct.pack("<Q", 1 << 40)),
    "a bytearray": instructions(b"\x96", struct.pack("<Q", 1 << 33)),
    "a Python 2 string": instructions(b"T", struct.pack("<i", (1 << 31) - 1)),
    "a frame": instructions(b"\x95", struct.pack("<Q", 1 << 40)),
    "a memo index": instructions(b"N" + b"r\xff\xff\xff\xff" + b"0" + b"]"),
    "a whole number": instructions(b"\x8b\xff\xff\xff\x7f"),
}


@pytest.mark.parametrize("size", ABSURD)
def test_an_absurd_size_takes_no_memory(size):
    tracemalloc.start()
    try:
        result = load(ABSURD[size])
    except BadInput:
        result = []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result == []
    assert peak < 1_000_000


@pytest.mark.parametrize("data", [b"", b"hello, world", b"<!DOCTYPE html><html>", b"\x80\x04", b"\x80\x63."])
def test_a_file_that_is_not_a_pickle_is_refused_in_one_sentence(data):
    with pytest.raises(BadInput, match="^the file is damaged, cut short or not a pickle"):
        load(data)


def test_a_pickle_cut_short_anywhere_is_refused_in_one_sentence():
    whole = python2.dump({"features": np.zeros(20, np.uint8), "labels": np.zeros(2, np.int64)})
    for length in range(len(whole)):
        with pytest.raises(BadInput, match="^the file "):
            load(whole[:length])


def test_random_damage_never_raises_anything_but_bad_input():
    whole = bytearray(python2.dump(ARRAYS))
    rng = np.random.default_rng(0)
    for _ in range(2000):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            damaged[place] = rng.integers(256)
        try:
            load(bytes(damaged))
        except BadInput as error:
            assert str(error).startswith("the file ") and len(str(error)) < 300


@pytest.mark.slow
def test_keys_nested_a_million_deep_do_not_crash_the_interpreter():
    with pytest.raises(BadInput, match="keys are not strings"):
        load(instructions(b"})" + b"\x85" * 1_000_000 + b"Ns"))


def nested(depth):
    """Object arrays of one element, nested; NumPy would free them recursively and overflow the C stack."""
    dtype = b"cnumpy\ndtype\n(U\x02O8K\x00K\x01tRq\x01"
    open_array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n)U\x01btR(K\x01)h\x01\x89]"
    return instructions(dtype, b"0", open_array * depth, b"N" + b"atb" * depth)


def test_arrays_nested_a_hundred_thousand_deep_do_not_crash_the_interpreter():
    with pytest.raises(BadInput, match="array of objects"):
        load(nested(100_000))


@pytest.mark.parametrize("again", [
    b"c_codecs\nencode\nh\x01U\x06latin1\x86R0",
    b"cnumpy.core.numeric\n_frombuffer\n(h\x02cnumpy\ndtype\nU\x02u1\x85R" + b"M\x10'\x85U\x01CtR0",
])
def test_a_small_file_cannot_fill_the_memory_by_reusing_its_bytes(again):
    text = b"X\x10'\0\0" + b"a" * 10000 + b"q\x010"
    data = b"T\x10'\0\0" + b"a" * 10000 + b"q\x020"
    with pytest.raises(BadInput, match="more array data than the file holds"):
        load(instructions(text, data, again * 1000, b"N"))


def test_a_pickle_of_too_many_objects_is_refused_before_they_fill_the_memory(monkeypatch):
    monkeypatch.setattr(safe_pickle._Counted, "left", 1000)
    assert load(instructions(b"]" * 998)) == []
    with pytest.raises(BadInput, match="^the file holds millions of objects where arrays belong"):
        load(instructions(b"]" * 999))


def test_a_size_is_believed_only_as_far_as_there_are_bytes():
    data = pickle.dumps(ARRAYS, 4)
    assert_equal(safe_pickle.load(io.BytesIO(data), "the file", len(data)), ARRAYS)
    for size in (len(data) - 1, 10):
        with pytest.raises(BadInput, match="^the file is damaged"):
            safe_pickle.load(io.BytesIO(data), "the file", size)
    with pytest.raises(BadInput, match="^the file is damaged"):
        safe_pickle.load(io.BytesIO(data[:-1]), "the file", 10**9)
