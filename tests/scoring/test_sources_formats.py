"""Every format gives back the rows that its own library wrote, in blocks of any size, and is scored alike."""

import io
import itertools
import json
import struct
import zipfile

import formats
import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import zarr

from kullback.scoring import InputError, UsageError, plan, score
from kullback.scoring.sources import RawLayout, open_source

DTYPES = (np.float64, np.float32, np.float16)


def rows_of(source, blocks):
    return np.concatenate([np.array(source.read(start, stop)) for start, stop in blocks])


def check_rows(place, expected, kind="logits", **options):
    """Read in order, in one piece, from the middle, and backwards."""
    source = open_source(place, kind, **options)
    n_rows = len(expected)
    assert (source.n_rows, source.announced_rows, source.vocab_size) == (n_rows, n_rows, expected.shape[1])
    assert source.dtype.isnative
    fifths = sorted({n_rows * k // 5 for k in range(6)})
    for edges in ([0, n_rows], fifths, list(range(n_rows + 1)), fifths[2:]):
        blocks = list(itertools.pairwise(edges))
        np.testing.assert_array_equal(rows_of(source, blocks), expected[edges[0] :])
        np.testing.assert_array_equal(rows_of(source, blocks[:1]), expected[blocks[0][0] : blocks[0][1]])
    source.release(0, n_rows)
    assert json.loads(json.dumps(source.describe()))["rows"] == n_rows
    assert source.fingerprint() == source.fingerprint()
    source.close()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", formats.EXACT)
def test_rows_come_back(tmp_path, name, dtype):
    rows = np.random.default_rng(0).normal(size=(41, 50)).astype(dtype)
    rows[3, 4] = -np.inf
    check_rows(formats.write(name, tmp_path, rows), rows)


@pytest.mark.parametrize("name", formats.NAMES)
def test_every_format_is_scored_like_npy(tmp_path, name, monkeypatch):
    monkeypatch.setattr(plan, "_PART_BYTES", 9 * 60 * 4)
    rng = np.random.default_rng(1)
    p = rng.normal(0, 3, (40, 60)).astype(np.float32)
    q = p + rng.normal(0, 0.1, p.shape).astype(np.float32)
    expected = score(formats.write("npy", tmp_path, p), formats.write(name, tmp_path, q), tmp_path / name, metrics="kl")
    np.save(tmp_path / "q.npy", q)
    plain = score(tmp_path / "file-npy.npy", tmp_path / "q.npy", tmp_path / "plain", metrics="kl")
    (found,), (wanted,) = ([s["kl"] for s in result.values()] for result in (expected, plain))
    if name in formats.EXACT:
        assert found == wanted
    else:
        assert found.mean.value == pytest.approx(wanted.mean.value, rel=1e-4)


# npz ------------------------------------------------------------------------------------------------------------------


def test_npz_member_is_chosen_by_name(tmp_path):
    arrays = {"a": np.arange(12.0).reshape(3, 4), "b": np.arange(24.0).reshape(2, 3, 4)}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", **arrays)
        check_rows(f"{tmp_path}/x.npz::a", arrays["a"])
        check_rows(f"{tmp_path}/x.npz::b", arrays["b"].reshape(6, 4))
        assert open_source(f"{tmp_path}/x.npz::b").groups(2, 4).tolist() == [0, 1]
        with pytest.raises(InputError, match=r"holds 2 arrays \(a, b\); choose one with .*::NAME"):
            open_source(tmp_path / "x.npz")
        with pytest.raises(InputError, match="has no array 'c'"):
            open_source(f"{tmp_path}/x.npz::c")


def zip_of(path, content, name="x.npy", compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(name, content)
    return path


def npy_bytes(array):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=True)
    return stream.getvalue()


def test_npz_that_is_not_rows(tmp_path):
    path = tmp_path / "x.npz"
    for content, message in (
        (npy_bytes(np.array([[object()]])), "pickled Python objects"),
        (npy_bytes(np.zeros((2, 3)))[:-1], "is not the 47 bytes"),
        (b"not an array", "not a NumPy array"),
        (npy_bytes(np.zeros(3)), "at least two axes"),
    ):
        with pytest.raises(InputError, match=message):
            open_source(zip_of(path, content))
    with pytest.raises(InputError, match=r"without any \.npy member \(a PyTorch file"):
        open_source(zip_of(path, b"x", "data.pkl"))
    with pytest.raises(InputError, match="compressed by bzip2"):
        open_source(zip_of(path, npy_bytes(np.zeros((2, 3))), compression=zipfile.ZIP_BZIP2))
    # A directory that lies about the size of a member.
    content = bytearray(zip_of(path, npy_bytes(np.zeros((20, 30)))).read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = struct.pack("<I", 1 << 30)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"announces 1073741824 bytes, more than \d+ stored bytes can hold"):
        open_source(path)


# safetensors ----------------------------------------------------------------------------------------------------------


def test_safetensors_bfloat16_and_groups(tmp_path):
    rows = np.random.default_rng(0).normal(size=(2, 5, 6)).astype(ml_dtypes.bfloat16)
    safetensors.numpy.save_file({"x": rows}, tmp_path / "x.safetensors")
    check_rows(tmp_path / "x.safetensors", rows.astype(np.float32).reshape(10, 6))
    source = open_source(tmp_path / "x.safetensors")
    assert (source.groups(3, 7).tolist(), source.describe()["dtype"]) == ([0, 0, 1, 1], "bfloat16")


def test_safetensors_tensors_are_joined_in_natural_order(tmp_path):
    rows = np.random.default_rng(0).normal(size=(12, 3, 6)).astype(np.float16)
    tensors = {f"row.{number}": rows[number] for number in range(12)}
    path = tmp_path / "x.safetensors"
    safetensors.numpy.save_file({**tensors, "confidence": np.zeros(12, np.float16)}, path)
    check_rows(path, rows.reshape(36, 6))
    assert open_source(path).groups(0, 36).tolist() == np.repeat(np.arange(12), 3).tolist()
    check_rows(f"{path}::row.1*", rows[[1, 10, 11]].reshape(9, 6))
    check_rows(f"{path}::row.10", rows[10])
    for member, message in (
        ("confidence", r"shape \[12\]"),
        ("nothing", "has no tensor 'nothing'; it holds confidence"),
    ):
        with pytest.raises(InputError, match=message):
            open_source(f"{path}::{member}")
    safetensors.numpy.save_file({**tensors, "wide": np.zeros((2, 7), np.float16)}, path)
    with pytest.raises(InputError, match="tensors that are not rows of one array"):
        open_source(path)


def test_safetensors_shards(tmp_path):
    rows = np.random.default_rng(0).normal(size=(11, 4, 6)).astype(np.float32)
    weight_map = {}
    for number in range(11):
        name = f"shard-{number}.safetensors"
        safetensors.numpy.save_file({"logits": rows[number]}, tmp_path / name)
        weight_map[f"logits.{number}"] = name
    index = tmp_path / "logits.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    for place in (tmp_path, f"{tmp_path}/shard-*.safetensors", index):
        check_rows(place, rows.reshape(44, 6))
    source = open_source(tmp_path)
    assert source.groups(0, 44).tolist() == np.repeat(np.arange(11), 4).tolist()
    for shards in ({"a": "../x"}, {"a": "/etc/passwd"}, {"a": 1}, {}, []):
        index.write_text(json.dumps({"weight_map": shards}))
        with pytest.raises(InputError, match="not an index of safetensors shards"):
            open_source(index)
    (tmp_path / "shard-3.safetensors").write_bytes((tmp_path / "shard-3.safetensors").read_bytes()[:-1])
    with pytest.raises(InputError, match=r"shard-3.safetensors is truncated"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"x": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 20]}}, "cannot have 20 bytes"),
        ({"x": {"dtype": "F32", "shape": [2, 1 << 62], "data_offsets": [0, 24]}}, "cannot have 24 bytes"),
        ({"x": {"dtype": "F32", "shape": [2, -3], "data_offsets": [0, 24]}}, "not a count"),
        ({"x": {"dtype": "F32", "shape": [2, 3.0], "data_offsets": [0, 24]}}, "not a count"),
        ({"x": {"dtype": "F32", "shape": [2, 3], "data_offsets": [8, 32]}}, "begins at 8, not 0"),
        (
            {"x": {"dtype": "F32", "shape": [20, 3], "data_offsets": [0, 240]}},
            "announces 240 bytes of data but 24 follow",
        ),
        ({"x": {"dtype": "F8_E4M3", "shape": [4, 6], "data_offsets": [0, 24]}}, "no tensor with at least two axes"),
        ({"x": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}}, "no tensor with at least two axes"),
        ({"x": {"shape": [2, 3]}}, "broken safetensors header"),
        ({"x": 1}, "broken safetensors header"),
        ({}, "announces 0 bytes"),
        ("nonsense", "starts with"),
    ],
)
def test_safetensors_headers_that_lie(tmp_path, header, message):
    content = json.dumps(header).encode()
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(content)) + content + bytes(24))
    with pytest.raises(InputError, match=message):
        open_source(tmp_path / "x")


# Parquet and Arrow ----------------------------------------------------------------------------------------------------


def test_columns_are_chosen_and_checked(tmp_path):
    rows = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    a, b = formats.fixed_size_lists(rows), formats.fixed_size_lists(rows + 1)
    ragged = pa.array([[1.0, 2.0], [1.0]], pa.list_(pa.float32()))
    nulls = pa.array([[1.0, 2.0], None], pa.list_(pa.float32()))
    null_numbers = pa.array([[1.0, 2.0], [None, 2.0]], pa.list_(pa.float32(), 2))
    for suffix in ("parquet", "arrow"):
        path = tmp_path / f"x.{suffix}"

        def write(columns, path=path, suffix=suffix):
            table = pa.table(columns)
            if suffix == "parquet":
                pq.write_table(table, path)
            else:
                with pa.ipc.new_file(str(path), table.schema) as writer:
                    writer.write_table(table)
            return path

        write({"a": a, "b": b, "c": list(range(9))})
        check_rows(f"{path}::a", rows)
        check_rows(f"{path}::b", rows + 1)
        for place, message in (
            (path, "several columns of lists of numbers"),
            (f"{path}::c", "'c' holds int64; expected lists"),
            (f"{path}::d", "has no column 'd'; it holds a"),
        ):
            with pytest.raises(InputError, match=message):
                open_source(place)
        for array, message in ((ragged, "row 1 has 1 columns"), (nulls, "a null among"), (null_numbers, "null number")):
            with pytest.raises(InputError, match=message):
                open_source(write({"a": array})).read(0, 2)
        with pytest.raises(InputError, match="no column of lists of numbers"):
            open_source(write({"c": [1, 2]}))
        with pytest.raises(InputError, match="no row"):
            open_source(write({"a": a[:0]}))


def test_a_stream_that_breaks_off_is_read_to_its_last_whole_batch(tmp_path):
    rows = np.random.default_rng(0).normal(size=(40, 50)).astype(np.float32)
    path = tmp_path / "x"
    formats.write_arrow(path, rows, stream=True, batch=10)
    path.write_bytes(path.read_bytes()[:-1000])
    source = open_source(path)
    assert source.n_rows == 30
    assert "truncated: the 30 rows of its 3 whole batches" in source.warnings[0]
    np.testing.assert_array_equal(source.read(0, 30), rows[:30])


# Zarr -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [(1, 4, 7), (2, 6, 30), (3, 2, 7), (1, 1, 30)])
def test_zarr_with_three_axes(tmp_path, chunks):
    rows = np.random.default_rng(0).normal(size=(3, 6, 30)).astype(np.float32)
    zarr.create_array(tmp_path / "x", data=rows, chunks=chunks)
    check_rows(tmp_path / "x", rows.reshape(18, 30))
    assert open_source(tmp_path / "x").groups(5, 7).tolist() == [0, 1]


@pytest.mark.parametrize("codecs", ["gzip", "none", "crc32c"])
def test_zarr_codecs(tmp_path, codecs):
    from zarr.codecs import Crc32cCodec, GzipCodec

    rows = np.random.default_rng(0).normal(size=(9, 30)).astype(np.float32)
    chosen = {"gzip": [GzipCodec()], "none": None, "crc32c": [GzipCodec(), Crc32cCodec()]}[codecs]
    zarr.create_array(tmp_path / "x", data=rows, chunks=(4, 30), compressors=chosen)
    check_rows(tmp_path / "x", rows)


def test_zarr_groups_urls_and_truncation(tmp_path):
    rows = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
    for place, root in ((f"memory://{tmp_path.name}/x", None), (tmp_path / "x", tmp_path / "x")):
        store = zarr.storage.FsspecStore.from_url(str(place)) if root is None else root
        group = zarr.create_group(store)
        group.create_array("a", data=rows, chunks=(4, 30))
        check_rows(f"{place}::a", rows)
        check_rows(place, rows)
        group.create_array("b", data=rows + 1, chunks=(4, 30))
        check_rows(f"{place}::b", rows + 1)
        with pytest.raises(InputError, match=r"group with 2 arrays \(a, b\); choose one"):
            open_source(place)
        with pytest.raises(InputError, match=r"there is no zarr\.json"):
            open_source(f"{place}::c")
    (tmp_path / "x" / "b" / "c" / "4" / "0").unlink()
    source = open_source(f"{tmp_path}/x::b")
    assert (source.n_rows, source.announced_rows) == (16, 20)
    assert "16 rows before its first missing chunk" in source.warnings[0]
    (tmp_path / "x" / "a" / "c" / "2" / "0").unlink()
    with pytest.raises(InputError, match="lacks a chunk of row 8"):
        open_source(f"{tmp_path}/x::a").read(0, 20)
    with pytest.raises(InputError, match=r"cannot be read|there is no zarr\.json"):
        open_source("memory://nowhere/x")
    with pytest.raises(InputError, match="cannot be read"):
        open_source("nonsense://nowhere/x")


def test_zarr_stores_that_are_refused(tmp_path):
    from zarr.codecs import BloscCodec, GzipCodec

    rows = np.zeros((8, 1000), np.float32) + 1
    zarr.create_array(tmp_path / "blosc", data=rows, compressors=[BloscCodec()])
    with pytest.raises(InputError, match="Blosc's decoder is not safe"):
        open_source(tmp_path / "blosc")
    zarr.create_array(tmp_path / "v2", data=rows, zarr_format=2)
    with pytest.raises(InputError, match="Zarr store of version 2; expected version 3"):
        open_source(tmp_path / "v2")
    zarr.create_array(tmp_path / "words", shape=(8, 9), dtype="bool")
    with pytest.raises(InputError, match="not even its first chunk"):
        open_source(tmp_path / "words")
    # Chunks that decode to more than a chunk.
    for codec, name in ((GzipCodec(), "gzip"), ("auto", "zstd")):
        for n_rows in (8, 800):
            data = np.zeros((n_rows, 1000), np.float32) + 1
            zarr.create_array(tmp_path / f"{name}{n_rows}", data=data, chunks=data.shape, compressors=codec)
        bomb = tmp_path / f"{name}800" / "c" / "0" / "0"
        bomb.rename(tmp_path / f"{name}8" / "c" / "0" / "0")
        with pytest.raises(InputError, match="holds more than the 32000 bytes of a chunk"):
            open_source(tmp_path / f"{name}8").read(0, 8)
    metadata = json.loads((tmp_path / "gzip8" / "zarr.json").read_text())
    for change, message in (
        (
            {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [0, 1000]}}},
            "cannot be read|expected sizes",
        ),
        ({"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1 << 30, 1000]}}}, "chunks of .* bytes"),
        ({"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [8]}}}, "cannot be read|chunks of shape"),
        ({"shape": [8, 1 << 40]}, "into .* chunks"),
        ({"codecs": [{"name": "numcodecs.pickle"}]}, "uses the codecs"),
        ({"data_type": "nonsense"}, "cannot be read"),
        ({"codecs": 7}, "broken Zarr metadata"),
        ({"zarr_format": 2}, "expected version 3"),
    ):
        (tmp_path / "gzip8" / "zarr.json").write_text(json.dumps({**metadata, **change}))
        with pytest.raises(InputError, match=message):
            open_source(tmp_path / "gzip8")


def write_shards(path, rows, **options):
    """Write shards of 16 rows, of chunks of 4 rows of up to 8 columns."""
    from zarr.codecs import ShardingCodec

    codec = ShardingCodec(chunk_shape=(4, 8), **options)
    shards = (16, -(-rows.shape[1] // 8) * 8)
    zarr.create_array(path, data=rows, chunks=shards, serializer=codec, compressors=None)
    return path


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("checksum", [True, False])
def test_zarr_shards(tmp_path, location, endian, checksum):
    from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec

    rows = np.random.default_rng(0).normal(size=(37, 30)).astype(np.float32)
    index = [BytesCodec(endian=endian), *([Crc32cCodec()] if checksum else [])]
    codecs = [BytesCodec(), ZstdCodec()]
    path = write_shards(tmp_path / "x", rows, codecs=codecs, index_codecs=index, index_location=location)
    check_rows(path, rows)
    shard = path / "c" / "1" / "0"
    content = shard.read_bytes()
    at = 0 if location == "start" else len(content) - 16 * 16 - 4 * checksum
    for position in range(0, 256, 16):
        for lie, message in (
            (b"\xff" * 16, "lacks some of its chunks"),
            (b"\x01" * 16, "has a chunk that ends at byte"),
        ):
            shard.write_bytes(content[: at + position] + lie + content[at + position + 16 :])
            with pytest.raises(InputError, match=f"cannot be decoded at row 16: a shard .*{message}"):
                open_source(path).read(0, 37)
    for size in {0, 1, 255, 16 * 16 + 4 * checksum - 1, len(content) // 2, len(content) - 1}:
        shard.write_bytes(content[:size])
        with pytest.raises(InputError, match=r"\A[^\n]*cannot be decoded at row 16[^\n]*\Z"):
            open_source(path).read(0, 37)


@pytest.mark.filterwarnings("ignore:Combining a `sharding_indexed` codec")
def test_zarr_shards_that_are_refused(tmp_path):
    from zarr.codecs import BytesCodec, GzipCodec, ShardingCodec, TransposeCodec, ZstdCodec

    rows = np.ones((16, 64), np.float32)
    for codec in (GzipCodec(), ZstdCodec()):
        path = write_shards(
            tmp_path / type(codec).__name__, rows, codecs=[BytesCodec(), codec], index_codecs=[BytesCodec()]
        )
        check_rows(path, rows)
        bomb = np.ones((16, 64_000), np.float32)
        zarr.create_array(tmp_path / "bomb", data=bomb, chunks=bomb.shape, compressors=codec, overwrite=True)
        stored = (tmp_path / "bomb" / "c" / "0" / "0").read_bytes()
        index = np.tile(np.array([0, len(stored)], "<u8"), 4 * 8)
        (path / "c" / "0" / "0").write_bytes(stored + index.tobytes())
        with pytest.raises(InputError, match="holds more than the 128 bytes of a chunk"):
            open_source(path).read(0, 16)
    write_shards(tmp_path / "nested", rows, codecs=[ShardingCodec(chunk_shape=(2, 8))])
    serializer = ShardingCodec(chunk_shape=(4, 8))
    zarr.create_array(tmp_path / "whole", data=rows, chunks=(16, 64), serializer=serializer, compressors=GzipCodec())
    for name in ("nested", "whole"):
        with pytest.raises(InputError, match="combines sharding with other codecs"):
            open_source(tmp_path / name)
    write_shards(tmp_path / "index", rows, index_codecs=[TransposeCodec(order=(2, 0, 1)), BytesCodec()])
    with pytest.raises(InputError, match="stores the index of its shards by"):
        open_source(tmp_path / "index")
    zarr.create_array(tmp_path / "many", shape=(300, 300), chunks=(1, 1), shards=(300, 300), dtype="float32")
    with pytest.raises(InputError, match="cuts a shard into 90000 chunks; expected 65536 at most"):
        open_source(tmp_path / "many")


def test_pieces_larger_than_the_memory_are_refused(tmp_path):
    rows = np.random.default_rng(0).normal(size=(64, 1000)).astype(np.float32)
    zarr.create_array(tmp_path / "x", data=rows, chunks=(64, 1000))
    with pytest.raises(InputError, match="pieces that take 1792000 bytes to decode"):
        score(tmp_path / "x", tmp_path / "x", tmp_path / "out", memory=400_000)
    assert score(tmp_path / "x", tmp_path / "x", tmp_path / "out", memory="8MiB")["x"]["kl"].maximum == 0


# Raw numbers, folders -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", ">f4"])
def test_raw_numbers(tmp_path, dtype):
    stored = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    rows = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(stored)
    path = tmp_path / "x.bin"
    path.write_bytes(b"abc" + rows.tobytes())
    expected = rows.astype(np.float64).reshape(6, 5)
    for shape in ((6, 5), (-1, 5), (5,), (2, 3, 5), (-1, 3, 5)):
        layout = RawLayout(dtype, shape, 3)
        check_rows(path, expected.astype(open_source(path, raw=layout).dtype), raw=layout)
    assert open_source(path, raw=RawLayout(dtype, (-1, 3, 5), 3)).groups(2, 4).tolist() == [0, 1]
    short = open_source(path, raw=RawLayout(dtype, (9, 5), 3))
    assert (short.n_rows, "truncated: 6 whole rows of the 9" in short.warnings[0]) == (6, True)
    with pytest.raises(InputError, match="less than one row"):
        open_source(path, raw=RawLayout(dtype, (6, 50), 3))
    with pytest.raises(InputError, match=r"bare numbers need dtype and shape \(--dtype, --shape\)"):
        open_source(path)


def test_raw_numbers_are_scored(tmp_path, pair):
    for path in pair:
        (tmp_path / path.stem).write_bytes(np.load(path).tobytes())
    options = {"dtype": "float32", "shape": "-1,60"}
    result = score(tmp_path / "p", tmp_path / "q", tmp_path / "raw", **options)
    assert result["q"]["kl"] == score(*pair, tmp_path / "npy")["q"]["kl"]
    for wrong in (
        {"dtype": "float32"},
        {"shape": "60"},
        {"offset": 4},
        {"dtype": "float31", "shape": "60"},
        {"dtype": "float32", "shape": "a,60"},
        {"dtype": "float32", "shape": "60,-1"},
        {"dtype": "float32", "shape": "-1"},
        {"dtype": "float32", "shape": "0,60"},
        {"dtype": "float32", "shape": "60", "offset": -1},
    ):
        with pytest.raises(UsageError):
            score(tmp_path / "p", tmp_path / "q", tmp_path / "out", **wrong)


def test_folders_of_npy_and_parquet(tmp_path):
    rows = np.random.default_rng(0).normal(size=(12, 5, 6)).astype(np.float32)
    for suffix in ("npy", "parquet"):
        (tmp_path / suffix).mkdir()
        for number in range(12):
            path = tmp_path / suffix / f"part{number}.{suffix}"
            if suffix == "npy":
                np.save(path, rows[number])
            else:
                pq.write_table(pa.table({"x": formats.fixed_size_lists(rows[number])}), path)
        check_rows(tmp_path / suffix, rows.reshape(60, 6))
    last = tmp_path / "npy" / "part11.npy"
    last.write_bytes(last.read_bytes()[:-1])
    source = open_source(tmp_path / "npy")
    assert (source.n_rows, source.announced_rows) == (59, 60)
    np.save(tmp_path / "npy" / "part3.npy", rows[3].astype(np.float64))
    with pytest.raises(InputError, match=r"part3.npy has dtype float64 but the first file of .* has float32"):
        open_source(tmp_path / "npy")
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"holds no file that ends in \.safetensors"):
        open_source(tmp_path / "none")
    with pytest.raises(InputError, match="holds no file that fits"):
        open_source(f"{tmp_path}/none/*.npy")
    (tmp_path / "npy" / "more.parquet").touch()
    with pytest.raises(InputError, match=r"several sorts \(\.npy, \.parquet\)"):
        open_source(tmp_path / "npy")


@pytest.mark.parametrize("name", ["npy", "npz-deflated", "parquet", "llama.cpp"])
def test_many_small_files_are_scored_like_one(tmp_path, name, monkeypatch):
    monkeypatch.setattr(plan, "_PART_BYTES", 37 * 60 * 4)
    rng = np.random.default_rng(0)
    p = rng.normal(0, 3, (200, 60)).astype(np.float32)
    (tmp_path / "p").mkdir()
    for number in range(40):
        (tmp_path / str(number)).mkdir()
        path = formats.write(name, tmp_path / str(number), p[5 * number : 5 * number + 5])
        suffix = {"parquet": ".parquet", "llama.cpp": ".kld"}.get(name, path.suffix)
        path.rename(tmp_path / "p" / f"{number}{suffix}")
    np.save(tmp_path / "q.npy", p + rng.normal(0, 0.1, p.shape).astype(np.float32))
    np.save(tmp_path / "whole.npy", p)
    options = {"metrics": "kl", "group_size": 5}
    joined = score(tmp_path / "p", tmp_path / "q.npy", tmp_path / "a", memory=12 << 20, metrics="kl")["q"]
    small = score(tmp_path / "p", tmp_path / "q.npy", tmp_path / "b", memory=12 << 20, **options)["q"]
    whole = score(tmp_path / "whole.npy", tmp_path / "q.npy", tmp_path / "c", **options)["q"]
    assert joined["kl"] == small["kl"]
    assert joined.n_groups == 40
    if name != "llama.cpp":
        assert small["kl"] == whole["kl"]


def test_a_file_that_changes_while_it_is_read(tmp_path):
    for number in range(8):
        np.save(tmp_path / f"{number}.npy", np.zeros((3, 4), np.float32))
    source = open_source(tmp_path)
    source.read(0, 24)
    np.save(tmp_path / "0.npy", np.zeros((2, 4), np.float32))
    with pytest.raises(InputError, match=r"0\.npy was changed while it was read"):
        source.read(0, 3)


def test_names_with_two_colons(tmp_path):
    rows = np.zeros((5, 3), np.float32)
    np.save(tmp_path / "a::b.npy", rows)
    check_rows(tmp_path / "a::b.npy", rows)
    np.save(tmp_path / "x.npy", rows)
    with pytest.raises(InputError, match="without named parts"):
        open_source(f"{tmp_path}/x.npy::part")
