"""The rule by which two blocks of rows are compared: `kullback.compare`, or llama.cpp's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from . import llama_rule, top_k_rule
from .errors import InputError, UsageError
from .inputs import Inputs
from .options import Options
from .sources import LlamaSource, Source

if TYPE_CHECKING:
    from .._core.types import Kind

__all__ = ["Comparer"]


class Comparer:
    """Compares blocks by the rule that was asked for.

    Parameters
    ----------
    inputs : Inputs
        The opened files.
    options : Options
        The run's options.
    threads : int, optional
        Threads of the native backend.
    """

    def __init__(self, inputs: Inputs, options: Options, threads: int | None) -> None:
        self._inputs = inputs
        self._options = options
        self._threads = threads

    def columns(self) -> list[str]:
        """Return the names of the columns, found by comparing two tiny rows.

        Raises
        ------
        UsageError
            If an option is refused, before any file has been read or written.
        """
        if self._options.kld_rule == "llama.cpp":
            return list(llama_rule.COLUMNS)
        if self._options.tail is not None:
            return top_k_rule.columns(self._options.tail)
        tiny = {"logits": [0.0, 0.0], "log_probs": [-np.log(2)] * 2, "probs": [0.5, 0.5], "weights": [1.0, 1.0]}
        kinds = {(self._inputs.reference.kind, source.kind) for source in self._inputs.compared.values()}
        targets = np.zeros(1, np.int64) if self._inputs.has_targets else None
        names: list[str] = []
        for p, q in kinds:
            try:
                names = list(self._compare(np.array([tiny[p]]), np.array([tiny[q]]), (p, q), targets, None))
            except ValueError as error:
                raise UsageError(str(error)) from None
        return names

    def compare(
        self, source: Source, p: NDArray[Any], q: NDArray[Any], targets: NDArray[np.int64] | None, start: int
    ) -> dict[str, NDArray[Any]]:
        """Return the columns of one block of one candidate, whose first row is row `start` of the file.

        Raises
        ------
        InputError
            If rows are not what the ``input`` option says they are.
        """
        if self._options.kld_rule == "llama.cpp":
            if targets is None:
                raise InputError("the llama.cpp rule needs target tokens")
            return llama_rule.compare_rows(p, q, targets, normalised=isinstance(source, LlamaSource))
        kinds = (self._inputs.reference.kind, source.kind)
        try:
            if self._options.tail is not None:
                vocab_size, tail = self._inputs.vocab_size, self._options.tail
                return top_k_rule.compare_rows(p, q, kinds, vocab_size=vocab_size, tail=tail, threads=self._threads)
            return self._compare(p, q, kinds, targets, self._options.vocab_size)
        except ValueError as error:
            raise InputError(f"{source.name}, with rows counted from row {start} on: {error}") from None

    def _compare(
        self,
        p: NDArray[Any],
        q: NDArray[Any],
        kinds: tuple[str, str],
        targets: NDArray[np.int64] | None,
        vocab_size: int | None,
    ) -> dict[str, NDArray[Any]]:
        from ..comparison import compare

        comparison = compare(
            p,
            q,
            input=cast("tuple[Kind, Kind]", kinds),
            metrics=None if self._options.metrics is None else list(self._options.metrics),
            targets=targets,
            temperature=self._options.temperature,
            vocab_size=vocab_size,
            threads=self._threads,
        )
        return {name: np.asarray(comparison[name]) for name in comparison}
