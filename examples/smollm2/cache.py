"""What has been made already, by the content it was made from."""

import hashlib
import json
import os
from pathlib import Path


def fingerprint(*parts: object) -> str:
    """Return a short hash of the parts: files by their content, anything else by its ``repr``."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else repr(part).encode()
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()[:16]


class Record:
    """A small file beside the products: which inputs each was made from.

    Parameters
    ----------
    folder
        The folder of the products; created when missing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._file = folder / "made_from.json"
        try:
            self._made: dict[str, list[str | int]] = json.loads(self._file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            self._made = {}

    def has(self, name: str, source: str) -> bool:
        """Whether the product ``name`` is there, in its recorded size, and was made from ``source``."""
        path = self._folder / name
        return path.exists() and self._made.get(name) == [source, path.stat().st_size]

    def add(self, name: str, source: str) -> None:
        """Note that ``name`` is complete and was made from ``source``."""
        self._made[name] = [source, (self._folder / name).stat().st_size]
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(self._made, indent=1) + "\n")
        os.replace(part, self._file)
