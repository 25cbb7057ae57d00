"""The part of the docstrings that every divergence shares, written once."""

import inspect

_SHARED = """\
Parameters
----------
{arrays}
axis : int, default -1
    Axis of each input that holds one distribution.
input : {kinds}
    What the numbers are. ``"probs"`` must sum to 1 within 0.01 and are then normalised exactly, ``"weights"`` are any
    non-negative numbers or counts, ``"log_probs"`` must have a log-sum-exp within 0.01 of 0, ``"logits"`` are any real
    numbers or -inf.{pair}
temperature : float, default 1.0
    Divides logits and log_probs before anything else.
vocab_size : int, optional
    Use only the first so many columns, for padded vocabularies.
nan_policy : {{"propagate", "raise"}}, default "propagate"
    Whether a row without a value is NaN in the result or an error.
threads : int, optional
    Number of threads of this call; the default is that of :func:`kullback.set_num_threads`.

Returns
-------
ndarray of float64, or numpy.float64
    One value a row, in nats, of the {leading}; a scalar if there is one row and no leading axis.
    NaN for a row with a NaN, a +inf, or no mass (all zero, all -inf).

Raises
------
ValueError
    If shapes or options do not fit, a probability or weight is negative, or "probs" or "log_probs" are not normalised;
    the message names the argument, row and column.
TypeError
    If an input does not hold real numbers in CPU memory.

"""

_PAIR = _SHARED.format(
    arrays="""\
p, q : array_like
    Rows of the reference and of the candidate, shape (..., V): float64, float32, float16, bfloat16 or integers. Leading
    axes broadcast. C-contiguous arrays are not copied.""",
    kinds='{"probs", "weights", "log_probs", "logits"} or a pair of them, default "probs"',
    pair=" A pair gives one kind for `p` and one for `q`.",
    leading="broadcast leading shape",
)
_SINGLE = _SHARED.format(
    arrays="""\
p : array_like
    Rows, shape (..., V): float64, float32, float16, bfloat16 or integers. C-contiguous arrays are not copied.""",
    kinds='{"probs", "weights", "log_probs", "logits"}, default "probs"',
    pair="",
    leading="leading shape",
)


def completed(docstring: str | None, sides: int, parameter: str = "") -> str:
    """Put the shared sections into a definition's docstring, before its references; `parameter` after the arrays."""
    text = inspect.cleandoc(docstring or "")
    shared = (_PAIR if sides == 2 else _SINGLE).replace(
        "axis : int", f"{parameter}\naxis : int" if parameter else "axis : int", 1
    )
    return text.replace("References\n---", shared + "References\n---", 1)
