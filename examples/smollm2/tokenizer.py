"""The model's own tokenizer: byte-level byte-pair encoding with the vocabulary and merges of its GGUF file."""

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from smollm2.weights import Weights


def load_tokenizer(weights: Weights) -> Tokenizer:
    """Build the tokenizer. Numbers are split into digits; no token is added at the beginning."""
    kind = weights.metadata("tokenizer.ggml.pre")
    if kind != "smollm":
        raise ValueError(f"this file asks for the pre-tokenizer {kind!r}; only 'smollm' is known here")
    vocabulary = {token: index for index, token in enumerate(weights.metadata("tokenizer.ggml.tokens"))}
    merges = []
    for line in weights.metadata("tokenizer.ggml.merges"):
        left, right = line.split(" ")
        merges.append((left, right))
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def windows(tokenizer: Tokenizer, passages: list[str], length: int) -> NDArray[np.int64]:
    """Return the first ``length`` token ids of every passage, as (passage, position)."""
    rows = [tokenizer.encode(passage).ids[:length] for passage in passages]
    shortest = min(len(row) for row in rows)
    if shortest < length:
        raise ValueError(f"a passage has only {shortest} tokens; {length} are needed")
    return np.array(rows, dtype=np.int64)
