"""The example's forward pass against the same network written as loops over single numbers."""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

from smollm2 import model

CONFIG = model.Config(
    block_count=2,
    embedding_length=24,
    head_count=6,
    head_count_kv=2,
    rope_freq_base=100.0,
    layer_norm_rms_epsilon=1e-5,
)
FEED_FORWARD, VOCABULARY = 20, 31


def random_weights(dtype: type) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(7)
    width, narrow = CONFIG.embedding_length, CONFIG.head_count_kv * CONFIG.head_length
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (VOCABULARY, width), "output_norm": (width,)}
    for block in range(CONFIG.block_count):
        inner = {
            "attn_norm": (width,),
            "attn_q": (width, width),
            "attn_k": (narrow, width),
            "attn_v": (narrow, width),
            "attn_output": (width, width),
            "ffn_norm": (width,),
            "ffn_gate": (FEED_FORWARD, width),
            "ffn_up": (FEED_FORWARD, width),
            "ffn_down": (width, FEED_FORWARD),
        }
        shapes |= {f"blk.{block}.{name}": shape for name, shape in inner.items()}
    return {f"{name}.weight": rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


def logits_by_loops(w: dict[str, NDArray[Any]], tokens: list[int]) -> list[list[float]]:
    """The same network, one number at a time, for one window."""

    def times(name: str, x: list[float]) -> list[float]:
        return [sum(float(a) * b for a, b in zip(row, x, strict=True)) for row in w[f"{name}.weight"]]

    def norm(name: str, x: list[float]) -> list[float]:
        scale = math.sqrt(sum(a * a for a in x) / len(x) + CONFIG.layer_norm_rms_epsilon)
        return [a / scale * float(g) for a, g in zip(x, w[f"{name}.weight"], strict=True)]

    def head(x: list[float], index: int) -> list[float]:
        return x[index * CONFIG.head_length : (index + 1) * CONFIG.head_length]

    def turned(x: list[float], position: int) -> list[float]:
        out = []
        for j in range(0, len(x), 2):
            angle = position / CONFIG.rope_freq_base ** (j / len(x))
            out.append(x[j] * math.cos(angle) - x[j + 1] * math.sin(angle))
            out.append(x[j] * math.sin(angle) + x[j + 1] * math.cos(angle))
        return out

    def attention(block: int, states: list[list[float]], position: int) -> list[float]:
        normed = [norm(f"blk.{block}.attn_norm", x) for x in states[: position + 1]]
        query = times(f"blk.{block}.attn_q", normed[position])
        keys = [times(f"blk.{block}.attn_k", x) for x in normed]
        values = [times(f"blk.{block}.attn_v", x) for x in normed]
        seen: list[float] = []
        for index in range(CONFIG.head_count):
            shared = index // (CONFIG.head_count // CONFIG.head_count_kv)
            q = turned(head(query, index), position)
            scores = []
            for s, key in enumerate(keys):
                k = turned(head(key, shared), s)
                scores.append(sum(a * b for a, b in zip(q, k, strict=True)) / math.sqrt(CONFIG.head_length))
            shares = [math.exp(a - max(scores)) for a in scores]
            for i in range(CONFIG.head_length):
                column = [head(value, shared)[i] for value in values]
                seen.append(sum(a * b for a, b in zip(shares, column, strict=True)) / sum(shares))
        return times(f"blk.{block}.attn_output", seen)

    states = [[float(a) for a in w["token_embd.weight"][token]] for token in tokens]
    for block in range(CONFIG.block_count):
        added = [attention(block, states, position) for position in range(len(tokens))]
        states = [[a + b for a, b in zip(x, y, strict=True)] for x, y in zip(states, added, strict=True)]
        for position, x in enumerate(states):
            h = norm(f"blk.{block}.ffn_norm", x)
            gate, up = times(f"blk.{block}.ffn_gate", h), times(f"blk.{block}.ffn_up", h)
            inner = [g / (1 + math.exp(-g)) * u for g, u in zip(gate, up, strict=True)]
            states[position] = [a + b for a, b in zip(x, times(f"blk.{block}.ffn_down", inner), strict=True)]
    return [times("token_embd", norm("output_norm", x)) for x in states]


def run(weights: dict[str, NDArray[Any]], tokens: NDArray[Any], linear: model.Linear = model.linear) -> NDArray[Any]:
    states = model.hidden_states(CONFIG, weights.__getitem__, tokens, linear=linear)
    return np.stack(list(model.logits_by_window(states, weights.__getitem__, linear=linear)))


@pytest.mark.parametrize("linear", [model.linear, model.linear_in_halves])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-4)])
def test_forward_pass_agrees_with_loops(linear: model.Linear, dtype: type, tolerance: float) -> None:
    weights = random_weights(dtype)
    tokens = np.random.default_rng(1).integers(VOCABULARY, size=(3, 7))
    found = run(weights, tokens, linear)
    expected = np.array([logits_by_loops(weights, list(window)) for window in tokens])
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


def test_no_position_sees_the_next_and_no_window_another() -> None:
    weights = random_weights(np.float64)
    tokens = np.random.default_rng(2).integers(VOCABULARY - 1, size=(2, 6))
    changed = tokens.copy()
    changed[0, 4] += 1
    before, after = run(weights, tokens), run(weights, changed)
    np.testing.assert_array_equal(before[0, :4], after[0, :4])
    np.testing.assert_array_equal(before[1], after[1])
    assert (before[0, 4:] != after[0, 4:]).any(axis=-1).all()


def test_silu_does_not_overflow() -> None:
    with np.errstate(all="raise"):
        found = model.silu(np.array([-1e4, 0, 1e4], dtype=np.float32))
    np.testing.assert_array_equal(found, np.array([0, 0, 1e4], dtype=np.float32))
