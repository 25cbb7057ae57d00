"""Writers of the file formats, made from their description and independent of the readers under test."""

import lzma
import struct
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).parent.parent / "data"


def encode_row(logits, exact_zero=False):
    """Encode a row of float32 logits as llama.cpp does (16 nats), or as the full-range fork with an exact zero."""
    z = np.asarray(logits, np.float32)
    finite = z[np.isfinite(z)]
    largest = finite.max()
    lowest = finite.min() if exact_zero else max(finite.min(), largest - np.float32(16))
    log_sum = np.float32(np.log(np.exp(finite - largest).sum(dtype=np.float64)))
    scale = np.float32((largest - lowest) / np.float32(65534 if exact_zero else 65535))
    inverse = np.float32(1) / scale if scale > 0 else np.float32(0)
    codes = np.rint(inverse * (np.where(np.isfinite(z), z, lowest) - lowest))
    codes = np.where(np.isfinite(z), codes + 1, 0) if exact_zero else np.where(z > lowest, codes, 0)
    codes = codes.astype("<u2")
    row = struct.pack("<ff", scale, lowest - largest - log_sum) + codes.tobytes()
    return row + b"\0\0" * (z.size % 2)


def encode_file(logits, tokens, n_ctx, *, magic=b"_logits_", n_chunks=None, stride=None):
    """Return a whole file; `logits` has one row per scored position, in the file's order."""
    vocab_size = len(logits[0])
    if magic == b"_logits_v2":
        header = struct.pack("<Iiiii", n_ctx, vocab_size, stride, n_ctx, n_chunks)
    else:
        n_chunks = len(tokens) // n_ctx if n_chunks is None else n_chunks
        header = struct.pack("<Iii", n_ctx, vocab_size, n_chunks)
    rows = b"".join(encode_row(row, magic == b"_logits2") for row in logits)
    return magic + header + np.asarray(tokens, "<i4").tobytes() + rows


@pytest.fixture(scope="session")
def encode():
    """Give tests the encoder of llama.cpp files."""
    return encode_file


@pytest.fixture(scope="session")
def real_files(tmp_path_factory):
    """Unpack the real float32 and 8-bit files, one chunk each."""
    folder = tmp_path_factory.mktemp("real")
    paths = []
    for name in ("f32", "q8"):
        paths.append(folder / f"{name}.kld")
        paths[-1].write_bytes(lzma.decompress((DATA / f"smollm2-135m-{name}.kld.xz").read_bytes()))
    return tuple(paths)


@pytest.fixture
def pair(tmp_path):
    """Write two .npy files of logits, 40 rows of 60 tokens, one a disturbed copy of the other."""
    rng = np.random.default_rng(1)
    p = rng.normal(0, 3, (40, 60)).astype(np.float32)
    q = p + rng.normal(0, 0.1, p.shape).astype(np.float32)
    np.save(tmp_path / "p.npy", p)
    np.save(tmp_path / "q.npy", q)
    return tmp_path / "p.npy", tmp_path / "q.npy"
