"""NumPy files: shapes, types, truncation, and headers that lie."""

import struct

import ml_dtypes
import numpy as np
import pytest

from kullback.scoring import InputError
from kullback.scoring.sources import open_source, read_token_ids


def write_raw(path, shape, data=b"", descr="'<f4'", fortran=False):
    header = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data)
    return path


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ">f4", ">f8", ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", [(6, 5), (2, 3, 5), (1, 2, 3, 5)])
def test_rows_are_read_as_saved(tmp_path, dtype, shape):
    array = np.random.default_rng(0).normal(size=shape).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    source = open_source(tmp_path / "a.npy")
    assert (source.n_rows, source.vocab_size, source.kind, source.warnings) == (6, 5, "logits", ())
    expected = array.reshape(6, 5).astype(np.float64)
    for start, stop in ((0, 6), (0, 1), (2, 5), (5, 6)):
        block = source.read(start, stop)
        assert block.dtype.isnative
        assert block.dtype == source.dtype
        np.testing.assert_array_equal(block.astype(np.float64), expected[start:stop])
        del block
    source.close()


def test_first_axis_of_three_is_the_group(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 2, 4), np.float32))
    np.save(tmp_path / "b.npy", np.zeros((6, 4), np.float32))
    assert open_source(tmp_path / "a.npy").groups(1, 6).tolist() == [0, 1, 1, 2, 2]
    assert open_source(tmp_path / "b.npy").groups(1, 6) is None
    assert open_source(tmp_path / "a.npy").targets(0, 6) is None


def test_a_converted_block_survives_the_next_read(tmp_path):
    array = np.arange(60).reshape(12, 5).astype(">f4")
    np.save(tmp_path / "a.npy", array)
    source = open_source(tmp_path / "a.npy")
    first = source.read(0, 4)
    second = source.read(4, 8)
    np.testing.assert_array_equal(first, array[:4])
    np.testing.assert_array_equal(second, array[4:8])


def test_integers_are_counts_only(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((2, 3), np.int32))
    with pytest.raises(InputError, match="weights"):
        open_source(tmp_path / "a.npy")
    assert open_source(tmp_path / "a.npy", "weights").read(0, 2).dtype == np.float64


def test_misaligned_data_is_copied(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n"
    data = np.arange(6, dtype="<f4").tobytes()
    assert (10 + len(header)) % 4
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data)
    block = open_source(tmp_path / "a.npy").read(0, 2)
    assert block.flags.aligned
    assert block.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_truncated_file_is_read_up_to_the_last_whole_row(tmp_path):
    for size, rows in ((24, 2), (23, 1), (12, 1)):
        path = write_raw(tmp_path / "a.npy", (3, 3), bytes(size))
        source = open_source(path)
        assert (source.n_rows, source.announced_rows) == (rows, 3)
        assert "truncated" in source.warnings[0]
        assert f"{rows} whole rows of the 3" in source.warnings[0]
    with pytest.raises(InputError, match="less than one row"):
        open_source(write_raw(tmp_path / "a.npy", (3, 3), bytes(11)))


def test_bytes_after_the_array_are_reported(tmp_path):
    source = open_source(write_raw(tmp_path / "a.npy", (1, 3), bytes(13)))
    assert "1 bytes after its array" in source.warnings[0]


@pytest.mark.parametrize(
    ("shape", "descr", "fortran", "message"),
    [
        ((0, 5), "'<f4'", False, "no row to score"),
        ((5, 0), "'<f4'", False, "no row to score"),
        ((5,), "'<f4'", False, "at least two axes"),
        ((), "'<f4'", False, "at least two axes"),
        ((2, 3), "'<f4'", True, "Fortran order"),
        ((2, 3), "'|O'", False, "pickled Python objects"),
        ((2, 3), "'<c8'", False, "complex64"),
        ((2, 3), "'|b1'", False, "bool"),
        ((2, 3), "'<U3'", False, "expected float64"),
        ((2, 3), "[('a', '<f4')]", False, "expected float64"),
        ((-2, 3), "'<f4'", False, "negative size"),
        ((1 << 62, 3), "'<f4'", False, "overflows 64 bits"),
        ((1 << 31, 1 << 31), "'<f4'", False, "overflows 64 bits"),
        ((1 << 200, 1), "'<f4'", False, "overflows 64 bits"),
        ((2, 1 << 40), "'<f4'", False, "less than one row"),
        (("'x'", 3), "'<f4'", False, "broken"),
        ((2, 3), "'nonsense'", False, "broken"),
        ((2, 3), "__import__('os')", False, "broken"),
    ],
)
def test_bad_headers_are_refused(tmp_path, shape, descr, fortran, message):
    text = str(shape).replace('"', "")
    path = write_raw(tmp_path / "a.npy", text, bytes(48), descr, fortran)
    with pytest.raises(InputError, match=message) as caught:
        open_source(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("length", range(6, 80, 7))
def test_header_cut_anywhere(tmp_path, length):
    np.save(tmp_path / "a.npy", np.zeros((2, 3), np.float32))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:length])
    with pytest.raises(InputError, match="broken"):
        open_source(tmp_path / "cut.npy")


def test_version_3_is_refused_by_name(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x03\x00" + bytes(64))
    with pytest.raises(InputError, match=r"version 3\.0"):
        open_source(tmp_path / "a.npy")


def test_missing_directory_empty_and_foreign(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(40))
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04" + bytes(40))
    (tmp_path / "text").write_bytes(b"hello, world\n")
    (tmp_path / "a.npy").write_bytes(b"")
    for name, message in (
        ("missing", "does not exist"),
        (".", "files of several sorts"),
        ("empty", "is empty"),
        ("model.gguf", "a GGUF model"),
        ("a.npz", "not a whole .npz archive"),
        ("text", "starts with b'hello"),
    ):
        with pytest.raises(InputError, match=message):
            open_source(tmp_path / name)


def test_token_ids(tmp_path):
    path = tmp_path / "t.npy"
    np.save(path, np.array([[1, 2], [3, 4]], np.uint16))
    assert read_token_ids(path).tolist() == [1, 2, 3, 4]
    np.save(path, np.asfortranarray([[1, 2], [3, 4]]))
    assert read_token_ids(path).tolist() == [1, 2, 3, 4]
    for array, message in ((np.ones(3), "integer token ids"), (np.array([1 << 63], np.uint64), "largest 64-bit")):
        np.save(path, array)
        with pytest.raises(InputError, match=message):
            read_token_ids(path)
    with pytest.raises(InputError, match="truncated"):
        read_token_ids(write_raw(path, (4,), bytes(15), "'<i4'"))
    path.write_bytes(b"1 2 3")
    with pytest.raises(InputError, match=r"not a .npy file"):
        read_token_ids(path)
