"""Where a source is: ``FILE``, ``FILE::name`` for a part of one, a folder, a pattern with ``*``, or a URL."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .safetensors import natural

__all__ = ["Location"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_SUFFIXES = (".safetensors", ".parquet", ".arrow", ".feather", ".npy", ".npz", ".kld", ".jsonl")
_MOST_FILES = 1 << 16


@dataclass(frozen=True)
class Location:
    """A place that may hold rows, as the user wrote it.

    Attributes
    ----------
    text : str
        All of it.
    place : str
        The file, folder, pattern or URL.
    member : str, optional
        What stands behind ``::``.
    """

    text: str
    place: str
    member: str | None = None

    @classmethod
    def parse(cls, place: str | os.PathLike[str]) -> Location:
        """Split ``FILE::name``; a file that really has ``::`` in its name is taken as it is."""
        text = os.fspath(place)
        before, separator, member = text.rpartition("::")
        if not separator or not before or not member or "://" in member or os.path.lexists(text):
            return cls(text, text)
        return cls(text, before, member)

    @property
    def is_url(self) -> bool:
        """Whether this is a URL and not a file."""
        return _URL.match(self.place) is not None

    @property
    def path(self) -> Path:
        """The file or folder."""
        return Path(self.place)

    def stem(self) -> str:
        """Return a name for the results."""
        parts = [part for part in re.split(r"[/\\]", self.place) if part and not glob.has_magic(part)]
        stem = Path(parts[-1]).stem if parts else ""
        return stem if self.member is None else f"{stem}-{self.member}"

    def files(self) -> list[Path] | None:
        """Return the files of a folder or of a pattern in natural order, or None if this is one file.

        Raises
        ------
        InputError
            If there is none, or they are of several sorts.
        """
        path = self.path
        if path.is_dir():
            found = [file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file()]
            what = f"file that ends in {', '.join(_SUFFIXES)}"
        elif glob.has_magic(self.place) and not path.exists():
            found = [file for file in map(Path, glob.glob(self.place)) if file.is_file()]
            what = "file that fits"
        else:
            return None
        if not found:
            raise InputError(
                f"{self.place} holds no {what}; expected one file, or several to be read one after another"
            )
        suffixes = sorted({file.suffix for file in found})
        if len(suffixes) > 1:
            raise InputError(
                f"{self.place} holds files of several sorts ({', '.join(suffixes)}); choose with a pattern"
            )
        if len(found) > _MOST_FILES:
            raise InputError(f"{self.place} holds {len(found)} files; expected {_MOST_FILES} at most")
        return sorted(found, key=lambda file: natural(file.name))
