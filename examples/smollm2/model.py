"""The forward pass of a Llama-family decoder: token ids in, next-token logits out.

Weights are asked for by name, one after the other, and used once for all windows together. So they can be
dequantised on the way, and 135 million parameters never lie in memory at the same time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Linear = Callable[[Array, Array], Array]
"""``linear(x, w)``: the product of every row of ``x`` (..., n_in) with the matrix ``w`` (n_out, n_in)."""


@dataclass(frozen=True)
class Config:
    """Shape and constants of the network, under the names of the GGUF metadata."""

    block_count: int
    embedding_length: int
    head_count: int
    head_count_kv: int
    rope_freq_base: float
    layer_norm_rms_epsilon: float

    @property
    def head_length(self) -> int:
        """Numbers per head."""
        return self.embedding_length // self.head_count


def linear(x: Array, w: Array) -> Array:
    """Multiply in one matrix product."""
    return x @ w.T


def linear_in_halves(x: Array, w: Array) -> Array:
    """Multiply as the sum of two half-width products: equal in exact arithmetic, rounded differently."""
    half = w.shape[1] // 2
    return x[..., :half] @ w[:, :half].T + x[..., half:] @ w[:, half:].T


def rms_norm(x: Array, gain: Array, epsilon: float) -> Array:
    """Scale each row to a root mean square of 1, then each column by ``gain``."""
    mean_square = np.einsum("...i,...i->...", x, x)[..., None] / x.shape[-1]
    normed: Array = x / np.sqrt(mean_square + x.dtype.type(epsilon)) * gain
    return normed


def rotate(x: Array, base: float) -> Array:
    """Apply rotary position embedding to ``x`` (..., position, head_length).

    Adjacent numbers are the real and imaginary part of a complex one, and pair ``j`` turns by
    ``position * base**(-2 j / head_length)``. (GGUF files of this family store queries and keys in that order.)
    """
    n_positions, length = x.shape[-2:]
    speed = base ** (-np.arange(0, length, 2) / length)
    pairs = np.ascontiguousarray(x).view(np.result_type(x, np.complex64))
    turn = np.exp(1j * np.outer(np.arange(n_positions), speed)).astype(pairs.dtype)
    turned: Array = (pairs * turn).view(x.dtype)
    return turned


def attend(q: Array, k: Array, v: Array) -> Array:
    """Causal attention with shared keys and values.

    Parameters
    ----------
    q
        Queries (window, kv_head, group, position, head_length): ``group`` query heads share a key head.
    k, v
        Keys and values (window, kv_head, 1, position, head_length).
    """
    n_positions, length = q.shape[-2:]
    score: Array = q @ k.swapaxes(-1, -2) / q.dtype.type(np.sqrt(length))
    score[..., ~np.tri(n_positions, dtype=bool)] = -np.inf
    score = np.exp(score - score.max(axis=-1, keepdims=True))
    seen: Array = (score / score.sum(axis=-1, keepdims=True)) @ v
    return seen


def silu(x: Array) -> Array:
    """Return x · sigmoid(x), written with tanh, which cannot overflow."""
    half = x / 2
    return half + half * np.tanh(half)


def hidden_states(
    config: Config,
    weight: Callable[[str], Array],
    tokens: NDArray[np.int64],
    *,
    linear: Linear = linear,
    on_block: Callable[[int], None] = lambda done: None,
) -> Array:
    """Run all blocks on several windows of text at once.

    Parameters
    ----------
    config
        The network's shape.
    weight
        Returns the tensor of a GGUF name, such as ``"blk.0.attn_q.weight"``, matrices as (n_out, n_in).
        The result has the dtype of the weights.
    tokens
        Token ids (window, position). Windows do not see each other.
    linear
        How to multiply by a matrix.
    on_block
        Called with the number of finished blocks.

    Returns
    -------
    Array
        The normalised last states (window, position, embedding_length).
    """
    n_windows, n_positions = tokens.shape
    epsilon = config.layer_norm_rms_epsilon

    def heads(x: Array, group: int) -> Array:
        split = x.reshape(n_windows, n_positions, config.head_count_kv, group, config.head_length)
        return split.transpose(0, 2, 3, 1, 4)

    x = weight("token_embd.weight")[tokens]
    for block in range(config.block_count):

        def get(name: str, block: int = block) -> Array:
            return weight(f"blk.{block}.{name}.weight")

        h = rms_norm(x, get("attn_norm"), epsilon)
        q = rotate(heads(linear(h, get("attn_q")), config.head_count // config.head_count_kv), config.rope_freq_base)
        k = rotate(heads(linear(h, get("attn_k")), 1), config.rope_freq_base)
        v = heads(linear(h, get("attn_v")), 1)
        seen = attend(q, k, v).transpose(0, 3, 1, 2, 4).reshape(x.shape)
        x = x + linear(seen, get("attn_output"))

        h = rms_norm(x, get("ffn_norm"), epsilon)
        x = x + linear(silu(linear(h, get("ffn_gate"))) * linear(h, get("ffn_up")), get("ffn_down"))
        on_block(block + 1)
    return rms_norm(x, weight("output_norm.weight"), epsilon)


def logits_by_window(states: Array, weight: Callable[[str], Array], *, linear: Linear = linear) -> Iterator[Array]:
    """Yield the logits (position, vocabulary) of each window; the embedding is also the output matrix."""
    output = weight("token_embd.weight")
    for window in states:
        yield linear(window, output)
