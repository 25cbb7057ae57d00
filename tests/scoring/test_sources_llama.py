"""llama.cpp files: every variant, odd vocabularies, truncation at every boundary, and headers that lie."""

import struct

import numpy as np
import pytest

from kullback.scoring import InputError
from kullback.scoring.sources import open_source


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def logits_of(n_rows, vocab_size):
    return np.random.default_rng(n_rows * 1000 + vocab_size).normal(0, 2, (n_rows, vocab_size)).astype(np.float32)


@pytest.mark.parametrize("vocab_size", [6, 7, 33])
@pytest.mark.parametrize("n_ctx", [3, 8, 9])
def test_upstream_layout(tmp_path, encode, vocab_size, n_ctx):
    n_chunks, rows_per_chunk = 3, n_ctx - 1 - n_ctx // 2
    logits = logits_of(n_chunks * rows_per_chunk, vocab_size)
    tokens = np.random.default_rng(0).integers(0, vocab_size, n_chunks * n_ctx)
    path = tmp_path / "base.kld"
    path.write_bytes(encode(logits, tokens, n_ctx))
    source = open_source(path)
    assert (source.n_rows, source.vocab_size, source.kind) == (len(logits), vocab_size, "logits")
    assert source.warnings == ()
    assert source.layout.file_bytes == path.stat().st_size
    decoded = source.read(0, source.n_rows)
    # Half a step of 16 nats / 65535.
    np.testing.assert_allclose(decoded, log_softmax(logits.astype(np.float64)), rtol=0, atol=1.3e-4)
    assert source.groups(0, source.n_rows).tolist() == np.repeat(range(n_chunks), rows_per_chunk).tolist()
    # Row r of a chunk belongs to position n_ctx/2 + r, and its target is the token after it.
    expected = [tokens[c * n_ctx + n_ctx // 2 + r + 1] for c in range(n_chunks) for r in range(rows_per_chunk)]
    assert source.targets(0, source.n_rows).tolist() == expected
    assert source.targets(1, 3).tolist() == expected[1:3]


@pytest.mark.parametrize("vocab_size", [6, 7])
def test_windows_fork(tmp_path, encode, vocab_size):
    n_ctx, stride, n_windows = 8, 2, 4
    logits = logits_of(n_windows * (n_ctx - 1), vocab_size)
    tokens = np.random.default_rng(0).integers(0, vocab_size, (n_windows - 1) * stride + n_ctx)
    path = tmp_path / "base.kld"
    path.write_bytes(encode(logits, tokens, n_ctx, magic=b"_logits_v2", stride=stride, n_chunks=n_windows))
    source = open_source(path)
    assert source.describe()["variant"] == "_logits_v2"
    assert (source.n_rows, source.warnings) == (len(logits), ())
    np.testing.assert_allclose(source.read(0, 28), log_softmax(logits.astype(np.float64)), rtol=0, atol=1.3e-4)
    expected = [tokens[w * stride + r + 1] for w in range(n_windows) for r in range(n_ctx - 1)]
    assert source.targets(0, 28).tolist() == expected


def test_exact_zero_fork(tmp_path, encode):
    logits = logits_of(3, 7) * 10  # a range far beyond 16 nats
    logits[0, 2] = logits[1, :5] = -np.inf
    path = tmp_path / "base.kld"
    path.write_bytes(encode(logits, np.arange(8) % 7, 8, magic=b"_logits2"))
    decoded = open_source(path).read(0, 3)
    np.testing.assert_array_equal(np.isneginf(decoded), np.isneginf(logits))
    finite = np.isfinite(logits)
    step = 10 * 10 / 65534
    np.testing.assert_allclose(decoded[finite], log_softmax(logits.astype(np.float64))[finite], rtol=0, atol=step)


def test_genuine_upstream_file_whose_n_ctx_spells_v2(tmp_path):
    n_ctx, vocab_size = 0x3276, 2
    rows = n_ctx - 1 - n_ctx // 2
    content = b"_logits_" + struct.pack("<Iii", n_ctx, vocab_size, 1) + bytes(4 * n_ctx + rows * 12)
    assert content.startswith(b"_logits_v2")
    path = tmp_path / "base.kld"
    path.write_bytes(content)
    source = open_source(path)
    assert (source.describe()["variant"], source.n_rows) == ("_logits_", rows)


def test_truncation_at_every_byte(tmp_path, encode):
    n_ctx, vocab_size = 6, 3
    tokens = np.arange(2 * n_ctx) % vocab_size
    whole = encode(logits_of(4, vocab_size), tokens, n_ctx)
    rows_at, row_bytes = 20 + 4 * 12, 16
    path = tmp_path / "base.kld"
    for size in range(1, len(whole) + 1):
        path.write_bytes(whole[:size])
        if size < rows_at + row_bytes:
            with pytest.raises(InputError) as caught:
                open_source(path)
            assert "\n" not in str(caught.value)
            continue
        source = open_source(path)
        rows = (size - rows_at) // row_bytes
        assert source.n_rows == rows
        assert bool(source.warnings) == (rows < 4)
        if rows < 4:
            assert f"{rows} whole rows ({rows // 2} whole chunks) of the 4 rows (2 chunks)" in source.warnings[0]
        assert np.isfinite(source.read(0, rows)).all()
        source.close()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (struct.pack("<Iii", 0, 10, 1), "broken header"),
        (struct.pack("<Iii", 2, 10, 1), "broken header"),
        (struct.pack("<Iii", 64, 0, 1), "broken header"),
        (struct.pack("<Iii", 64, -5, 1), "broken header"),
        (struct.pack("<Iii", 64, 10, 0), "broken header"),
        (struct.pack("<Iii", 64, 10, -1), "broken header"),
        (struct.pack("<Iii", 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFFFFF), "truncated within its tokens"),
        (struct.pack("<Iii", 16, 0x7FFFFFFF, 1), "truncated within its first row"),
    ],
)
def test_lying_headers(tmp_path, header, message):
    path = tmp_path / "base.kld"
    path.write_bytes(b"_logits_" + header + bytes(400))
    with pytest.raises(InputError, match=message):
        open_source(path)


@pytest.mark.parametrize("fields", [(8, 4, 0, 8, 2), (8, 4, -3, 8, 2), (8, 4, 2, 1, 2), (8, 4, 2, 8, 0)])
def test_lying_headers_of_the_windows_fork(tmp_path, fields):
    path = tmp_path / "base.kld"
    path.write_bytes(b"_logits_v2" + struct.pack("<Iiiii", *fields) + bytes(400))
    with pytest.raises(InputError, match="broken header"):
        open_source(path)


def test_counts_beyond_32_bits(tmp_path):
    """Offsets past 4 GiB, in a sparse file: products that overflow int32 in other readers."""
    n_ctx, vocab_size, n_chunks = 4096, 151_940, 40
    row_bytes, rows = 2 * (vocab_size + 4), 2047 * n_chunks
    size = 20 + 4 * n_ctx * n_chunks + rows * row_bytes
    path = tmp_path / "base.kld"
    with path.open("wb") as file:
        file.write(b"_logits_" + struct.pack("<Iii", n_ctx, vocab_size, n_chunks))
        file.truncate(size)
        file.seek(size - row_bytes)
        file.write(struct.pack("<ff", 1.0, -7.0) + struct.pack("<3H", 1, 2, 3))
    source = open_source(path)
    assert source.n_rows == rows
    assert source.warnings == ()
    assert source.read(rows - 1, rows)[0, :4].tolist() == [-6.0, -5.0, -4.0, -7.0]


def test_damaged_row_is_nan_not_an_error(tmp_path, encode):
    content = bytearray(encode(logits_of(2, 4), np.zeros(6, int), 6))
    content[20 + 24 : 20 + 28] = struct.pack("<f", np.nan)
    path = tmp_path / "base.kld"
    path.write_bytes(content)
    block = open_source(path).read(0, 2)
    assert np.isnan(block[0]).all()
    assert np.isfinite(block[1]).all()


def test_real_file(real_files):
    for path in real_files:
        source = open_source(path)
        assert (source.n_rows, source.vocab_size, source.layout.n_ctx) == (31, 49_152, 64)
        assert source.warnings == ()
        mass = np.exp(source.read(0, 31).astype(np.float64)).sum(axis=1)
        assert (mass > 1).all()  # tokens below the floor were lifted to it
        assert (mass < 1.01).all()
