"""The files of one run, opened together and checked against each other before anything is written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack, closing
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError, UsageError
from .fingerprints import fingerprint
from .options import Options
from .sources import (
    LlamaSource,
    Location,
    RawLayout,
    Source,
    TopKSource,
    holds_top_k,
    open_source,
    read_token_ids,
)

__all__ = ["NOISE_FLOOR", "Inputs", "candidate_names", "describe_file"]

StrPath = str | PathLike[str]

# Folder of the noise floor's parts, and its name in the summary.
NOISE_FLOOR = "noise_floor"

_RESERVED = {"summary.json", "manifest.json", NOISE_FLOOR}

# Above any real file; what announces more is damaged, or would keep a run busy with planning it.
_MOST_ROWS = 1 << 32
_MOST_BYTES = 1 << 48


def candidate_names(places: Sequence[StrPath]) -> list[str]:
    """Return one folder name per candidate: its file stem made safe, numbered where two would be alike."""
    names: list[str] = []
    taken = set(_RESERVED)
    for place in places:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", Location.parse(place).stem()).strip(".")[:100] or "candidate"
        name, number = stem, 1
        while name.lower() in taken:  # some file systems do not tell upper from lower case
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.lower())
        names.append(name)
    return names


class Inputs:
    """A reference, its candidates, and the target and group of every row.

    Parameters
    ----------
    reference : path
        Where the reference distributions are, as `open_source` takes it.
    candidates : sequence of path
        What to compare with it.
    targets : Path, optional
        ``.npy`` file with the token that followed each row; llama.cpp references know it themselves.
    options : Options
        The run's options.
    noise_floor : path, optional
        The reference's model run a second time.

    Attributes
    ----------
    reference : Source
    candidates : dict of str to Source
        By folder name.
    compared : dict of str to Source
        The candidates, and the noise floor if there is one.
    n_rows : int
        Rows that all files have.
    vocab_size : int
        Columns that are compared.
    warnings : list of str
        What the user has to know about the inputs.

    Raises
    ------
    InputError
        If a file is bad or does not fit the others.
    """

    def __init__(
        self,
        reference: StrPath,
        candidates: Sequence[StrPath],
        targets: Path | None,
        options: Options,
        noise_floor: StrPath | None = None,
    ) -> None:
        if not candidates:
            raise UsageError("at least one candidate is needed")
        self._options = options
        self._stack = ExitStack()
        try:
            self.reference = self._open(reference)
            names = candidate_names(candidates)
            self.candidates = {name: self._open(path) for name, path in zip(names, candidates, strict=True)}
            self.compared = dict(self.candidates)
            if noise_floor is not None:
                self.compared[NOISE_FLOOR] = self._open(noise_floor)
            self.sources: list[Source] = [self.reference, *self.compared.values()]
            self._check_lists()
            self.warnings = list(dict.fromkeys(w for source in self.sources for w in source.warnings))
            self.n_rows = self._common_rows()
            self.vocab_size = self._common_vocabulary()
            self._check_tokens()
            self._check_rule()
            self._target_path = targets
            self._targets = None if targets is None else self._read_targets(targets)
            self._check_target_range()
        except BaseException:
            self._stack.close()
            raise

    def _open(self, place: StrPath) -> Source:
        source = open_source(place, self._options.kind, self._options.raw, top_k=self._options.tail is not None)
        self._stack.callback(source.close)
        if isinstance(source, TopKSource):  # all of it is here already
            return source
        n_bytes = source.announced_rows * source.vocab_size * source.dtype.itemsize
        if source.announced_rows > _MOST_ROWS or n_bytes > _MOST_BYTES:
            raise InputError(
                f"{source.name} announces {source.announced_rows} rows of {source.vocab_size} columns, more than "
                "can be scored in one run"
            )
        return source

    def _check_lists(self) -> None:
        """With lists of top tokens, every comparison must have one, so that all have the same columns."""
        if self._options.tail is None or isinstance(self.reference, TopKSource):
            return
        for source in self.compared.values():
            if not isinstance(source, TopKSource):
                raise InputError(
                    f"{source.name} and the reference {self.reference.name} both hold full rows, to which tail does "
                    "not apply; score them in a run without it (--tail)"
                )

    def _common_rows(self) -> int:
        n_rows = min(source.n_rows for source in self.sources)
        for source in self.sources[1:]:
            if source.announced_rows != self.reference.announced_rows:
                raise InputError(
                    f"{source.name} has {source.announced_rows} rows but the reference {self.reference.name} has "
                    f"{self.reference.announced_rows}; expected one row for each of the reference's"
                )
        for source in self.sources:
            if source.n_rows > n_rows and source.n_rows == source.announced_rows:
                self.warnings.append(f"{source.name}: only its first {n_rows} of {source.n_rows} rows are scored")
        return n_rows

    def _common_vocabulary(self) -> int:
        wanted = self._options.vocab_size
        lists = [source for source in self.sources if isinstance(source, TopKSource)]
        full = [source for source in self.sources if not isinstance(source, TopKSource)]
        if not full and wanted is None:
            raise UsageError(
                "vocab_size is needed: files of top tokens do not say how many tokens there are (--vocab-size N)"
            )
        vocab_size = self._common_width(full) if full else wanted
        assert vocab_size is not None
        for source in lists:
            if source.vocab_size > vocab_size:
                raise InputError(
                    f"{source.name} has the token id {source.vocab_size - 1}, outside the vocabulary of {vocab_size}"
                )
        return vocab_size

    def _common_width(self, sources: list[Source]) -> int:
        wanted, first = self._options.vocab_size, sources[0]
        for source in sources:
            if wanted is not None and wanted > source.vocab_size:
                raise InputError(f"vocab_size is {wanted} but {source.name} has only {source.vocab_size} columns")
            if wanted is None and source.vocab_size != first.vocab_size:
                smaller = min(source.vocab_size, first.vocab_size)
                role = "the reference " if first is self.reference else ""
                raise InputError(
                    f"{source.name} has {source.vocab_size} columns but {role}{first.name} has "
                    f"{first.vocab_size}; if the larger vocabulary is padded, compare the first {smaller} "
                    f"with vocab_size (--vocab-size {smaller})"
                )
        return wanted or first.vocab_size

    def _check_tokens(self) -> None:
        """Two llama.cpp files must come from the same text, cut in the same way."""
        if not isinstance(self.reference, LlamaSource):
            return
        for source in self.compared.values():
            if not isinstance(source, LlamaSource):
                continue
            for name in ("n_ctx", "chunk_stride", "rows_per_chunk"):
                mine, theirs = getattr(source.layout, name), getattr(self.reference.layout, name)
                if mine != theirs:
                    raise InputError(f"{source.name} has {name} {mine} but the reference has {theirs}")
            if not np.array_equal(source.tokens, self.reference.tokens):
                raise InputError(f"{source.name} holds other tokens than the reference {self.reference.name}")

    def _check_rule(self) -> None:
        if self._options.kld_rule != "llama.cpp":
            return
        if not isinstance(self.reference, LlamaSource):
            raise InputError(f"kld_rule llama.cpp needs a llama.cpp reference file; {self.reference.name} is not one")
        for source in self.compared.values():
            if source.kind != "logits":
                raise InputError(f"kld_rule llama.cpp needs logits; {source.name} holds {source.kind}")

    def _read_targets(self, path: Path) -> NDArray[np.int64]:
        targets = read_token_ids(path)
        if targets.size not in {self.n_rows, self.reference.announced_rows}:
            raise InputError(f"{path} holds {targets.size} token ids; expected one per row, {self.n_rows}")
        return targets

    def _check_target_range(self) -> None:
        for start in range(0, self.n_rows, 1 << 20):
            targets = self.targets(start, min(start + (1 << 20), self.n_rows))
            if targets is None:
                return
            bad = (targets < 0) | (targets >= self.vocab_size)
            if bad.any():
                row = int(np.argmax(bad))
                raise InputError(
                    f"{self._target_path or self.reference.name}: the target token of row {start + row} is "
                    f"{targets[row]}, outside the vocabulary of {self.vocab_size}"
                )

    @property
    def has_targets(self) -> bool:
        """Whether the token that followed each row is known."""
        return self.targets(0, 0) is not None

    def targets(self, start: int, stop: int) -> NDArray[np.int64] | None:
        """Return the token that followed each row, or None."""
        if self._targets is not None:
            return self._targets[start:stop]
        return self.reference.targets(start, stop)

    def groups(self, start: int, stop: int) -> NDArray[np.int64] | None:
        """Return the group of each row, or None."""
        if self._options.group_size is not None:
            return np.arange(start, stop, dtype=np.int64) // self._options.group_size
        return self.reference.groups(start, stop)

    def _role(self, name: str) -> str:
        return f"candidate {name}" if name in self.candidates else "noise floor"

    def names(self) -> dict[str, str]:
        """Return what every input is called, by its role."""
        names = {"reference": self.reference.name}
        names |= {self._role(name): source.name for name, source in self.compared.items()}
        return names if self._target_path is None else {**names, "targets": str(self._target_path)}

    def fingerprints(self) -> dict[str, dict[str, Any]]:
        """Return size and digest of every input, by its role."""
        facts = {"reference": self.reference.fingerprint()}
        facts |= {self._role(name): source.fingerprint() for name, source in self.compared.items()}
        return facts if self._target_path is None else {**facts, "targets": fingerprint(self._target_path)}

    def __enter__(self) -> Inputs:
        return self

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def describe_file(place: StrPath, raw: RawLayout | None = None) -> dict[str, Any]:
    """Return what ``kullback inspect`` prints about a file: its path, facts and warnings.

    Raises
    ------
    InputError
        If the file is bad.
    """
    location = Location.parse(place)
    lists = raw is None and holds_top_k(location)
    with closing(open_source(place, "weights", raw, top_k=lists)) as source:  # the kind that takes every type of number
        return {"path": str(place), **source.describe(), "warnings": list(source.warnings)}
