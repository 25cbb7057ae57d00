"""Weights out of a GGUF file, as float32, optionally after a round trip through another quantisation."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

from smollm2.model import Config


class Weights:
    """A GGUF file: its metadata, and its tensors dequantised when they are asked for.

    Parameters
    ----------
    path
        The GGUF file; tensors are read from it through a memory map.
    """

    def __init__(self, path: Path) -> None:
        self._reader = GGUFReader(path)
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}

    def metadata(self, key: str) -> Any:
        """Return the metadata value of ``key``."""
        field = self._reader.get_field(key)
        if field is None:
            raise KeyError(key)
        return field.contents()

    @cached_property
    def config(self) -> Config:
        """The network's shape and constants."""
        return Config(
            block_count=self.metadata("llama.block_count"),
            embedding_length=self.metadata("llama.embedding_length"),
            head_count=self.metadata("llama.attention.head_count"),
            head_count_kv=self.metadata("llama.attention.head_count_kv"),
            rope_freq_base=self.metadata("llama.rope.freq_base"),
            layer_norm_rms_epsilon=self.metadata("llama.attention.layer_norm_rms_epsilon"),
        )

    def original(self, name: str) -> NDArray[np.float32]:
        """Return a tensor as the file has it."""
        tensor = self._tensors[name]
        return dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)

    def round_trip(self, name: str, form: str) -> NDArray[np.float32]:
        """Return a tensor after quantising it to ``form`` (such as ``"Q4_0"``) and back.

        Only the matrices of the blocks make the trip. The embedding, which is also the output matrix, stays as the
        file has it (8-bit), and the norms stay float32: the usual recipe of a quantised file, and this file's own.
        """
        values = self.original(name)
        if not name.startswith("blk.") or values.ndim != 2:
            return values
        kind = GGMLQuantizationType[form]
        return dequantize(quantize(values, kind), kind).astype(np.float32, copy=False)
