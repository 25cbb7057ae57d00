"""What is accepted, and the words of what is not."""

import re
import sys
import types
from array import array

import helpers
import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest
from helpers import assert_close

import kullback as kb

ROW = np.array([0.5, 0.25, 0.25])
PAIR = np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]])
EXPECTED = np.array([0.5 * np.log(2.0), 0.5 * np.log(2.0)])


def test_expected_values_of_this_module(backend):
    assert kb.kl_divergence(ROW, [0.25, 0.25, 0.5]) == pytest.approx(0.25 * np.log(2.0))


# Accepted -----------------------------------------------------------------------------------------


class OnlyDLPack:
    """An array of a library that NumPy knows nothing about."""

    def __init__(self, values, device=1):
        self._values, self._device = values, device

    def __dlpack__(self, **options):
        return self._values.__dlpack__(**options)

    def __dlpack_device__(self):
        return (self._device, 0)


class OnlyArray:
    """Something with an array inside."""

    def __init__(self, values):
        self._values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self._values, dtype=dtype)


class BFloat16Array(OnlyArray):
    """An array like JAX's: DLPack refuses its bfloat16, NumPy gets it through ml_dtypes."""

    def __dlpack__(self, **options):
        raise BufferError("bfloat16 is not supported")

    def __dlpack_device__(self):
        return (1, 0)


class FakeTensor:
    """The few methods of a torch tensor that are used; bfloat16 cannot become a NumPy array."""

    def __init__(self, values, device="cpu"):
        self._values = values
        self.device = types.SimpleNamespace(type=device)
        self.dtype = f"torch.{values.dtype}"

    def detach(self):
        return self

    def view(self, dtype):
        return FakeTensor(self._values.view(dtype))

    def numpy(self):
        if self.dtype == "torch.bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self._values


FakeTensor.__name__, FakeTensor.__module__ = "Tensor", "torch"

READABLE = {
    "list": lambda rows: rows.tolist(),
    "tuple": lambda rows: tuple(map(tuple, rows.tolist())),
    "buffer": lambda rows: memoryview(np.ascontiguousarray(rows)),
    "dlpack": OnlyDLPack,
    "__array__": OnlyArray,
    "bfloat16 through __array__": lambda rows: BFloat16Array(rows.astype(ml_dtypes.bfloat16)),
    "torch": FakeTensor,
    "torch bfloat16": lambda rows: FakeTensor(rows.astype(ml_dtypes.bfloat16)),
    "ml_dtypes": lambda rows: rows.astype(ml_dtypes.bfloat16),
    "float8": lambda rows: rows.astype(ml_dtypes.float8_e4m3fn),
    "float16": lambda rows: rows.astype(np.float16),
    "long double": lambda rows: rows.astype(np.longdouble),
    "foreign byte order": lambda rows: rows.astype(rows.dtype.newbyteorder("S")),
    "misaligned": lambda rows: np.frombuffer(b"x" + rows.tobytes(), np.uint8)[1:].view(np.float64).reshape(rows.shape),
    "arrow": lambda rows: pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1]),
    "arrow slice": lambda rows: pa.FixedSizeListArray.from_arrays(
        pa.array(np.concatenate([np.ones(rows.shape[1]), rows.ravel()])), rows.shape[1]
    )[1:],
    "arrow chunks": lambda rows: pa.chunked_array(
        [pa.FixedSizeListArray.from_arrays(pa.array(row), rows.shape[1]) for row in rows]
    ),
    "arrow float16": lambda rows: pa.FixedSizeListArray.from_arrays(
        pa.array(rows.astype(np.float16).ravel()), rows.shape[1]
    ),
}


@pytest.mark.parametrize("reader", READABLE)
def test_array_likes(backend, reader, monkeypatch):
    torch = types.ModuleType("torch")
    torch.int16 = np.int16
    monkeypatch.setitem(sys.modules, "torch", torch)
    q = READABLE[reader](np.array([[0.25, 0.75, 0.0], [0.125, 0.125, 0.75]]))
    expected = kb.kl_divergence(PAIR, [[0.25, 0.75, 0.0], [0.125, 0.125, 0.75]])
    assert_close(kb.kl_divergence(READABLE[reader](PAIR), q), expected, helpers.tolerance(backend, np.float32(0)))


def test_one_dimensional_buffers(backend):
    assert kb.kl_divergence(array("d", [0.5, 0.5]), array("f", [0.5, 0.5])) == 0.0


def test_inputs_are_never_written_to(backend):
    p, q = PAIR.copy(), PAIR[::-1].copy()
    p.flags.writeable = q.flags.writeable = False
    before = p.copy(), q.copy()
    kb.compare(p, q, input="probs", targets=[0, 1])
    np.testing.assert_array_equal([p, q], before)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_float_arrays_are_viewed_not_copied(dtype):
    from kullback._core.validation import two_sided

    rows = np.zeros((4, 6), helpers.DTYPES[dtype])
    problem = two_sided(rows, rows[::-1], axis=0, vocab_size=3)
    assert np.shares_memory(problem.p, rows)
    assert np.shares_memory(problem.q, rows)
    wide = two_sided(rows[0], np.broadcast_to(rows[1], (10**9, 6)))
    assert wide.p.shape == (10**9, 6)
    assert np.shares_memory(wide.p, rows)


# Refused ------------------------------------------------------------------------------------------

CALLS = {
    "lengths": (
        lambda: kb.kl_divergence(ROW, np.full(4, 0.25)),
        ValueError,
        "p and q must have rows of one length, got 3 and 4; if one vocabulary is padded, vocab_size= uses the first so "
        "many columns of both",
    ),
    "length 1 is not broadcast": (
        lambda: kb.kl_divergence(ROW, [1.0]),
        ValueError,
        "p and q must have rows of one length, got 3 and 1; if one vocabulary is padded, vocab_size= uses the first so "
        "many columns of both",
    ),
    "leading shapes": (
        lambda: kb.kl_divergence(np.ones((2, 5, 3)), np.ones((4, 3))),
        ValueError,
        "p and q must have leading shapes that broadcast, got (2, 5) and (4,)",
    ),
    "scalar": (lambda: kb.kl_divergence(0.5, ROW), ValueError, "p must have at least one dimension, got a scalar"),
    "scalar q": (
        lambda: kb.kl_divergence(ROW, np.float32(1)),
        ValueError,
        "q must have at least one dimension, got a scalar",
    ),
    "no columns": (
        lambda: kb.kl_divergence(ROW, np.empty((2, 0))),
        ValueError,
        "q must have rows of at least one column, got shape (2, 0)",
    ),
    "ragged": (
        lambda: kb.entropy([[1.0], [0.5, 0.5]]),
        ValueError,
        re.compile(r"p cannot be read as an array: .*inhomogeneous.*"),
    ),
    "strings": (
        lambda: kb.kl_divergence(["a", "b"], ROW),
        TypeError,
        "p must hold real numbers (floating point or integers), got dtype <U1",
    ),
    "None": (
        lambda: kb.kl_divergence(ROW, None),
        TypeError,
        "q must hold real numbers (floating point or integers), got NoneType read as dtype object",
    ),
    "bool": (
        lambda: kb.kl_divergence([True, False], ROW),
        TypeError,
        "p must hold real numbers (floating point or integers), got dtype bool",
    ),
    "complex": (
        lambda: kb.kl_divergence(ROW, ROW + 0j),
        TypeError,
        "q must hold real numbers (floating point or integers), got dtype complex128",
    ),
    "dates": (
        lambda: kb.entropy(np.zeros(3, "M8[s]")),
        TypeError,
        "p must hold real numbers (floating point or integers), got dtype datetime64[s]",
    ),
    "masked": (
        lambda: kb.kl_divergence(ROW, np.ma.masked_less(ROW, 0.3)),
        TypeError,
        "q is a masked array, expected a plain one: fill or drop the masked entries first",
    ),
    "torch on a GPU": (
        lambda: kb.kl_divergence(FakeTensor(ROW, "cuda"), ROW),
        TypeError,
        "p must be in CPU memory, got a tensor on namespace(type='cuda'): pass p.cpu()",
    ),
    "DLPack on a GPU": (
        lambda: kb.kl_divergence(ROW, OnlyDLPack(ROW, device=2)),
        TypeError,
        "q must be in CPU memory, got an array on DLPack device type 2",
    ),
    "unreadable DLPack": (
        lambda: kb.kl_divergence(ROW, OnlyDLPack(memoryview(b"abc"))),
        (TypeError, AttributeError),
        re.compile(".*__dlpack__.*"),
    ),
    "arrow null rows": (
        lambda: kb.entropy(pa.array([[0.5, 0.5], None], pa.list_(pa.float64(), 2))),
        ValueError,
        "p must not have nulls, got 1 null rows",
    ),
    "arrow null entries": (
        lambda: kb.entropy(pa.array([[0.5, None]], pa.list_(pa.float64(), 2))),
        ValueError,
        "p must not have nulls, got 1 null entries",
    ),
    "axis too large": (
        lambda: kb.kl_divergence(np.ones((2, 3)), ROW, axis=1),
        ValueError,
        "axis must be between -1 and 0 for q with 1 dimension, got 1",
    ),
    "axis too small": (
        lambda: kb.entropy(np.ones((2, 3)), axis=-3),
        ValueError,
        "axis must be between -2 and 1 for p with 2 dimensions, got -3",
    ),
    "axis float": (lambda: kb.entropy(ROW, axis=0.0), TypeError, "axis must be an integer, got 0.0"),
    "axis -1.0": (lambda: kb.entropy(ROW, axis=-1.0), TypeError, "axis must be an integer, got -1.0"),
    "axis None": (lambda: kb.entropy(ROW, axis=None), TypeError, "axis must be an integer, got None"),
    "vocab_size 0": (
        lambda: kb.kl_divergence(ROW, ROW, vocab_size=0),
        ValueError,
        "vocab_size must be between 1 and 3 (the shorter row), got 0",
    ),
    "vocab_size too large": (
        lambda: kb.kl_divergence(ROW, np.full(4, 0.25), vocab_size=10**30),
        ValueError,
        "vocab_size must be between 1 and 3 (the shorter row), got 1000000000000000000000000000000",
    ),
    "vocab_size bool": (
        lambda: kb.entropy(ROW, vocab_size=True),
        TypeError,
        "vocab_size must be an integer, got True",
    ),
    "vocab_size float": (lambda: kb.entropy(ROW, vocab_size=2.0), TypeError, "vocab_size must be an integer, got 2.0"),
    "input": (
        lambda: kb.kl_divergence(ROW, ROW, input="prob"),
        ValueError,
        'input must be one of "probs", "weights", "log_probs", "logits" or a pair of them, got \'prob\'',
    ),
    "input of three": (
        lambda: kb.kl_divergence(ROW, ROW, input=("probs",) * 3),
        ValueError,
        'input must be one of "probs", "weights", "log_probs", "logits" or a pair of them, '
        "got ('probs', 'probs', 'probs')",
    ),
    "input of an entropy": (
        lambda: kb.entropy(ROW, input=("probs", "probs")),
        ValueError,
        'input must be one of "probs", "weights", "log_probs", "logits", got (\'probs\', \'probs\')',
    ),
    "temperature 0": (
        lambda: kb.kl_divergence(ROW, ROW, input="logits", temperature=0),
        ValueError,
        "temperature must be finite and greater than 0, got 0",
    ),
    "temperature NaN": (
        lambda: kb.kl_divergence(ROW, ROW, input="logits", temperature=float("nan")),
        ValueError,
        "temperature must be finite and greater than 0, got nan",
    ),
    "temperature text": (
        lambda: kb.entropy(ROW, input="logits", temperature="hot"),
        TypeError,
        "temperature must be a number, got 'hot'",
    ),
    "temperature of probabilities": (
        lambda: kb.kl_divergence(ROW, ROW, temperature=2.0),
        ValueError,
        "temperature divides logits and log_probs, got 2.0 with input='probs'",
    ),
    "nan_policy": (
        lambda: kb.entropy(ROW, nan_policy="omit"),
        ValueError,
        'nan_policy must be "propagate" or "raise", got \'omit\'',
    ),
    "threads 0": (lambda: kb.entropy(ROW, threads=0), ValueError, "threads must be between 1 and 1024, got 0"),
    "threads absurd": (
        lambda: kb.entropy(ROW, threads=10**9),
        ValueError,
        "threads must be between 1 and 1024, got 1000000000",
    ),
    "threads float": (lambda: kb.entropy(ROW, threads=2.5), TypeError, "threads must be an integer, got 2.5"),
    "set_num_threads": (lambda: kb.set_num_threads(-1), ValueError, "n must be between 1 and 1024, got -1"),
    "use_backend": (
        lambda: kb.use_backend("nativ"),
        ValueError,
        "the backend must be one of auto, native, numpy, got 'nativ'; did you mean 'native'?",
    ),
    "name": (
        lambda: kb.divergence("jefreys", ROW, ROW),
        ValueError,
        f"name must be one of {', '.join(kb.divergence_names())}, got 'jefreys'; did you mean 'jeffreys'?",
    ),
    "name list": (
        lambda: kb.divergence(["kl"], ROW, ROW),
        ValueError,
        f"name must be one of {', '.join(kb.divergence_names())}, got ['kl']",
    ),
    "unknown option": (
        lambda: kb.divergence("kl", ROW, ROW, base=2),
        TypeError,
        "kl_divergence() got an unexpected keyword argument 'base'",
    ),
    "parameter of another": (
        lambda: kb.kl_divergence(ROW, ROW, alpha=2),
        TypeError,
        "kl_divergence() got an unexpected keyword argument 'alpha'",
    ),
    "parameter missing": (lambda: kb.renyi_divergence(ROW, ROW), TypeError, "renyi_divergence needs order="),
    "parameter missing, by name": (
        lambda: kb.divergence("alpha", ROW, ROW),
        TypeError,
        "alpha_divergence needs alpha=",
    ),
    "parameter of an entropy": (
        lambda: kb.renyi_entropy(ROW, order="2"),
        TypeError,
        "order must be a number, got '2'",
    ),
    "order negative": (lambda: kb.tsallis_entropy(ROW, order=-1), ValueError, "order must be at least 0, got -1"),
    "order NaN": (lambda: kb.renyi_divergence(ROW, ROW, order=np.nan), ValueError, "order must be at least 0, got nan"),
    "alpha infinite": (
        lambda: kb.alpha_divergence(ROW, ROW, alpha=np.inf),
        ValueError,
        "alpha must be finite, got inf",
    ),
    "alpha huge": (
        lambda: kb.alpha_divergence(ROW, ROW, alpha=10**400),
        ValueError,
        f"alpha must be finite, got {10**400}",
    ),
    "alpha of a mixture": (
        lambda: kb.skew_kl_divergence(ROW, ROW, alpha=1.5),
        ValueError,
        "alpha must be between 0 and 1, got 1.5",
    ),
    "weight bool": (lambda: kb.js_divergence(ROW, ROW, weight=True), TypeError, "weight must be a number, got True"),
    "negative": (
        lambda: kb.kl_divergence(ROW, [1.5, 0.0, -0.5]),
        ValueError,
        "q must not hold negative probabilities, got -0.5 in the row, column 2",
    ),
    "negative weight": (
        lambda: kb.kl_divergence([[1, 1], [2, -3]], [1, 1], input="weights"),
        ValueError,
        "p must not hold negative weights, got -3 in row 1, column 1",
    ),
    "negative before NaN": (
        lambda: kb.entropy([[[0.5, 0.5], [np.nan, -1.0]]]),
        ValueError,
        "p must not hold negative probabilities, got -1 in row (0, 1), column 1",
    ),
    "sum": (
        lambda: kb.kl_divergence([0.5, 0.75], [0.5, 0.5]),
        ValueError,
        'p must hold probabilities that sum to 1 within 0.01, got a sum of 1.25 in the row; input="weights" takes '
        "numbers of any sum",
    ),
    "log-sum-exp": (
        lambda: kb.kl_divergence(np.log([[0.5, 0.5]]), [[1.0, -np.inf]], input="log_probs"),
        ValueError,
        'q must hold log-probabilities whose log-sum-exp is 0 within 0.01, got 1 in row 0; input="logits" takes '
        "numbers of any log-sum-exp",
    ),
    "nan_policy raise": (
        lambda: kb.kl_divergence([[0.5, 0.5], [np.nan, 0.5]], [0.5, 0.5], nan_policy="raise"),
        ValueError,
        "the result is NaN for row 1: p or q holds a NaN, an infinity or no mass there",
    ),
    "nan_policy raise, entropy": (
        lambda: kb.entropy([0.0, 0.0], input="weights", nan_policy="raise"),
        ValueError,
        "the result is NaN for the row: p holds a NaN, an infinity or no mass there",
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_messages(backend, call):
    function, error, message = CALLS[call]
    pattern = message if isinstance(message, re.Pattern) else re.compile(re.escape(message))
    with pytest.raises(error) as raised:
        function()
    assert pattern.fullmatch(str(raised.value)), str(raised.value)


def test_positional_and_keyword_only(backend):
    with pytest.raises(TypeError):
        kb.kl_divergence(p=ROW, q=ROW)
    with pytest.raises(TypeError):
        kb.kl_divergence(ROW, ROW, -1)


def test_masses_within_the_tolerance_are_accepted(backend):
    assert_close(kb.entropy([0.504, 0.504]), np.log(2.0), 1e-14)
    assert_close(kb.entropy(np.log([0.504, 0.504]), input="log_probs"), np.log(2.0), 1e-14)
    for off in (0.98, 1.02):
        with pytest.raises(ValueError, match="sum to 1 within"):
            kb.entropy(np.array([0.5, 0.5]) * off)
