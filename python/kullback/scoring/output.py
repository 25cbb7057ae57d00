"""The output directory: parts that appear whole or not at all, and two JSON files.

Everything is written beside its final name, flushed to disk, and renamed: whatever has its final name is complete.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .arrow_numbers import as_arrow, as_numpy
from .errors import OutputError
from .inputs import NOISE_FLOOR
from .manifest import SCHEMA_VERSION, difference, with_texts
from .plan import Missing, Part

__all__ = ["RunDirectory", "clear_errors", "part_path"]

_PART = re.compile(r"part-\d{6}\.parquet")
_TEMPORARY = re.compile(r".*\.\d+\.tmp")
_KEYS = ("row", "group", "target")


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full"
    return error.strerror or str(error)


@contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """Turn an OSError into one sentence about a file that cannot be written."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {_reason(error)}; finished parts are kept") from None


def write_atomically(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file so that it appears under its name complete or not at all.

    Parameters
    ----------
    path : Path
        Final name.
    write : callable
        Receives the open temporary file.

    Raises
    ------
    OutputError
        If the disk is full or the directory cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with clear_errors(path):
        try:
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    with suppress(OSError, AttributeError):  # no such thing on Windows; some network file systems refuse it
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def part_path(directory: Path, name: str, number: int) -> Path:
    """Return the file of a part of a candidate."""
    return directory / name / f"part-{number:06d}.parquet"


class RunDirectory:
    """``DIR`` of a run.

    Parameters
    ----------
    path : Path
        The directory; made if it does not exist.
    manifest : dict
        Manifest of the run that is about to start.
    overwrite : bool
        Throw away what an earlier run with another identity left.

    Raises
    ------
    OutputError
        If the directory holds another run or files of other origin, or cannot be written.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], overwrite: bool) -> None:
        self.path = path
        self._names: list[str] = [*manifest["candidates"], *([NOISE_FLOOR] if manifest["noise_floor"] else [])]
        self._columns = [*_KEYS, *manifest["identity"]["columns"]]
        with clear_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        found = self._read_manifest(overwrite)
        if found is not None and overwrite:
            self._clear(found)
            found = None
        if found is None:
            self._refuse_foreign_files()
        else:
            self._check_same_run(found, manifest)
        with clear_errors(path):
            for name in self._names:
                (path / name).mkdir(exist_ok=True)
        if found is None:
            self.write_json("manifest.json", manifest)
        elif (renewed := with_texts(found, manifest.get("token_texts_record"))) != found:
            self.write_json("manifest.json", renewed)
        self._remove_temporaries()

    def _read_manifest(self, overwrite: bool) -> dict[str, Any] | None:
        file = self.path / "manifest.json"
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            found = None
        if isinstance(found, dict):
            return found
        if overwrite:
            return {}
        raise OutputError(f"{file} is damaged; use --overwrite (overwrite=True) to start again")

    def _check_same_run(self, found: dict[str, Any], manifest: dict[str, Any]) -> None:
        advice = "use --overwrite (overwrite=True) to replace it, or another directory"
        if found.get("schema_version") != SCHEMA_VERSION:
            version = found.get("schema_version")
            raise OutputError(f"{self.path} holds a run of schema version {version}, not {SCHEMA_VERSION}; {advice}")
        changed = difference(found.get("identity"), manifest["identity"])
        if changed:
            raise OutputError(f"{self.path} holds a run with other inputs or options ({changed}); {advice}")

    def _refuse_foreign_files(self) -> None:
        for name in ("summary.json", *self._names):
            if (self.path / name).exists() and not (self._is_ours(name)):
                raise OutputError(f"{self.path / name} exists and is not from a scoring run; use another directory")

    def _is_ours(self, name: str) -> bool:
        """Tell whether a candidate's folder holds nothing but what a run leaves."""
        folder = self.path / name
        return folder.is_dir() and not any(folder.iterdir())

    def _clear(self, found: dict[str, Any]) -> None:
        """Remove the files of an earlier run, and no others.

        What says that the run is complete goes first and what says whose parts these are goes last, so that an
        interruption leaves an incomplete run of the old kind.
        """
        old = found.get("candidates")
        names = {name for name in (old if isinstance(old, list) else []) if isinstance(name, str)}
        names |= {*self._names, *([NOISE_FLOOR] if found.get("noise_floor") else [])}
        with clear_errors(self.path):
            for name in ("summary.json", "report.html"):  # a page about other numbers must not stay beside the new ones
                (self.path / name).unlink(missing_ok=True)
            for name in names:
                folder = self.path / name
                # A name from the file is not trusted to stay within the directory.
                if folder.parent != self.path or name in {"", ".", ".."} or not folder.is_dir() or folder.is_symlink():
                    continue
                for file in list(folder.iterdir()):
                    if _PART.fullmatch(file.name) or _TEMPORARY.fullmatch(file.name):
                        file.unlink()
                with suppress(OSError):
                    folder.rmdir()
            (self.path / "manifest.json").unlink(missing_ok=True)

    def _remove_temporaries(self) -> None:
        for folder in (self.path, *(self.path / name for name in self._names)):
            for file in folder.glob("*.tmp"):
                if _TEMPORARY.fullmatch(file.name):
                    with suppress(OSError):
                        file.unlink()

    def part_path(self, name: str, number: int) -> Path:
        """Return the file of a part."""
        return part_path(self.path, name, number)

    def has_part(self, name: str, part: Part) -> bool:
        """Tell whether a part is there, with the expected columns and rows; a damaged one counts as missing."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.part_path(name, part.number)
        if not path.is_file():
            return False
        try:
            metadata = pq.read_metadata(path)
        except (OSError, pa.ArrowException):
            return False
        names: list[str] = metadata.schema.to_arrow_schema().names
        return int(metadata.num_rows) == part.stop - part.start and names == self._columns

    def missing(self, parts: Sequence[Part]) -> list[Missing]:
        """Return the parts that are still to be made, each with the candidates that lack it."""
        lacking = ((part, tuple(name for name in self._names if not self.has_part(name, part))) for part in parts)
        return [(part, names) for part, names in lacking if names]

    def write_part(
        self, name: str, number: int, keys: Mapping[str, NDArray[Any] | None], columns: Mapping[str, NDArray[Any]]
    ) -> None:
        """Write a part; absent keys (no group, no target) become null columns."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        n_rows = len(next(iter(columns.values())))
        arrays = {
            key: pa.nulls(n_rows, pa.int64()) if values is None else as_arrow(values) for key, values in keys.items()
        }
        arrays |= {column: as_arrow(values) for column, values in columns.items()}
        table = pa.table({column: arrays[column] for column in self._columns})
        write_atomically(
            self.part_path(name, number),
            lambda file: pq.write_table(table, file, compression="zstd"),
        )

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write a JSON file, readable and without NaN."""
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        write_atomically(self.path / name, lambda file: _write_text(file, text))

    def columns(self, name: str, n_parts: int) -> PartColumns:
        """Return the columns of a candidate's parts, read when asked for."""
        return PartColumns([self.part_path(name, number) for number in range(n_parts)], self._columns)


def _write_text(file: IO[bytes], text: str) -> None:
    file.write(text.encode("utf-8"))


class PartColumns(Mapping[str, NDArray[Any]]):
    """Columns of Parquet parts; each is read from disk when it is asked for and not kept."""

    def __init__(self, paths: list[Path], names: list[str]) -> None:
        self._paths = paths
        self._names = names
        self._footers: dict[Path, Any] = {}  # to parse one takes longer than to read a column

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Read a column; KeyError if there is none of that name or it is null throughout."""
        import pyarrow.parquet as pq

        if name not in self._names:
            raise KeyError(name)
        pieces: list[NDArray[Any]] = []
        for path in self._paths:
            footer = self._footers.get(path)
            with pq.ParquetFile(path, metadata=footer, pre_buffer=False) as file:  # a third of the time of read_table
                self._footers[path] = file.metadata
                column = file.read([name], use_threads=False).column(0)
            if column.null_count:
                raise KeyError(name)
            pieces.extend(map(as_numpy, column.chunks))
        return np.concatenate(pieces)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of all columns."""
        return iter(self._names)

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(self._names)
