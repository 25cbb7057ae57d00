"""The texts of the tokens, from a tokenizer's file or a list, whatever way they are spelled there.

Vocabularies do not hold the texts as they stand in the output. GPT-2's byte-level BPE and its heirs write each byte as
a letter (``Ġthe`` for ``" the"``, ``Ċ`` for a line break), SentencePiece writes ``▁the``, and ``<0x0A>`` for a byte,
WordPiece marks what continues a word (``##ing``).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError, reason_of
from .fingerprints import fingerprint
from .token_classes import CLASSES, class_of, looks_special

__all__ = ["TokenTexts", "read_token_texts"]

_LARGEST_FILE = 256 << 20
_MOST_TOKENS = 1 << 24
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_MARKS = {"Ġ": "byte-level", "▁": "sentencepiece", " ": "plain"}


def _byte_letters() -> dict[str, int]:
    """Return the byte that each letter of byte-level BPE stands for: itself if it is visible, or one above 255."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + n): byte for n, byte in enumerate(hidden)}


_LETTERS = _byte_letters()


class TokenTexts:
    """The text of every token of a vocabulary.

    Parameters
    ----------
    spelled : sequence of str or None
        By token id, as the vocabulary spells them; None where there is no such token.
    spelling : {"plain", "byte-level", "sentencepiece", "wordpiece"}
        How that is.
    special : set of int
        Ids of marks that are no part of the language.
    path : Path, optional
        The file they are from.
    """

    def __init__(
        self, spelled: Sequence[str | None], spelling: str, special: set[int], path: Path | None = None
    ) -> None:
        self._spelled = spelled
        self._special = special
        self.spelling = spelling
        self.path = path
        codes = {name: code for code, name in enumerate(CLASSES)}
        self._codes = np.array([codes[self._class(token)] for token in range(len(spelled))], np.int8)
        self._unknown = codes["unknown"]

    def __len__(self) -> int:
        """Return the number of ids, those without a token included."""
        return len(self._spelled)

    def _bytes(self, token: int) -> bytes:
        text = self._spelled[token] or ""
        if token in self._special:
            return text.encode(errors="replace")
        if self.spelling == "byte-level":
            # A token that was added later is spelled as it is.
            known = all(letter in _LETTERS for letter in text)
            return bytes(_LETTERS[letter] for letter in text) if known else text.encode(errors="replace")
        if self.spelling == "sentencepiece":
            byte = _BYTE.fullmatch(text)
            return bytes([int(byte[1], 16)]) if byte else text.replace("▁", " ").encode(errors="replace")
        if self.spelling == "wordpiece":
            text = text.removeprefix("##") if text.startswith("##") else f" {text}"
        return text.encode(errors="replace")

    def __getitem__(self, token: int) -> str:
        """Return a token as it stands in the output; a replacement character for bytes that are no text alone."""
        return self._bytes(token).decode(errors="replace")

    def _class(self, token: int) -> str:
        if self._spelled[token] is None:
            return "unknown"
        if token in self._special:
            return "special"
        try:
            return class_of(self._bytes(token).decode())
        except UnicodeDecodeError:
            return "bytes"

    def codes(self, ids: NDArray[np.int64]) -> NDArray[np.int8]:
        """Return the class of each token as an index of `CLASSES`; -1 for the id -1, a row without a token."""
        ids = np.asarray(ids).reshape(-1)
        found = np.full(ids.size, self._unknown, np.int8)
        inside = (ids >= 0) & (ids < len(self))
        found[inside] = self._codes[ids[inside]]
        found[ids < 0] = -1
        return found

    def record(self) -> dict[str, Any]:
        """Return what the manifest keeps of the file: its path, which a report run elsewhere can open, and digest."""
        if self.path is None:
            return {"path": None}
        path = str(self.path.absolute())
        return {"path": path, "spelling": self.spelling, "tokens": len(self), **fingerprint(self.path)}


def read_token_texts(path: str | PathLike[str]) -> TokenTexts:
    r"""Read the texts of a vocabulary.

    Parameters
    ----------
    path : path
        A ``tokenizer.json`` of Hugging Face, a JSON object from token to id, a JSON list of strings by id, or a text
        file with one token a line. How the tokens are spelled is told by the file, or by the mark that most of them
        start with.

    Returns
    -------
    TokenTexts

    Raises
    ------
    InputError
        If the file is none of these.

    Examples
    --------
    >>> import tempfile
    >>> from kullback.scoring import read_token_texts
    >>> with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
    ...     _ = file.write('["<s>", "▁the", "re", "<0x0A>"]')
    ...     file.flush()
    ...     texts = read_token_texts(file.name)
    >>> texts[1], texts[3], texts.spelling
    (' the', '\n', 'sentencepiece')
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise InputError(f"token_texts: {path} is {'no file' if path.exists() else 'missing'}")
        if path.stat().st_size > _LARGEST_FILE:
            raise InputError(f"token_texts: {path} has more than {_LARGEST_FILE >> 20} MiB; expected a vocabulary")
        text = path.read_bytes().decode("utf-8-sig")  # line ends as they are
    except UnicodeDecodeError:
        raise InputError(f"token_texts: {path} is not text in UTF-8") from None
    except OSError as error:
        raise InputError(f"token_texts: {path} cannot be read: {error.strerror or error}") from None
    content: Any = None
    if text.lstrip()[:1] in ("{", "["):
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            if path.suffix == ".json":
                raise InputError(f"token_texts: {path} is not JSON: {reason_of(error)}") from None
    try:
        spelled, spelling, special = _parse(content, text)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        expected = "expected a tokenizer.json, a list of strings, or one token a line"
        raise InputError(f"token_texts: {path} holds no vocabulary: {reason_of(error)}; {expected}") from None
    if not spelled:
        raise InputError(f"token_texts: {path} holds no token")
    if special is None:
        special = {token for token, text in enumerate(spelled) if text is not None and looks_special(text)}
    return TokenTexts(spelled, spelling or _spelling_of(spelled), special, path)


def _parse(content: Any, text: str) -> tuple[list[str | None], str | None, set[int] | None]:
    """Return tokens by id, their spelling and the special ones, the latter two if the file says so."""
    if content is None:
        lines = text.split("\n")
        return [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)], None, None
    if isinstance(content, list):
        if not all(isinstance(token, str) for token in content):
            raise ValueError("its list must hold strings only")
        return content, None, None
    if "model" not in content:
        return _by_id(content.items()), None, None
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, dict):
        pairs = list(vocabulary.items())
    else:  # Unigram: [token, score], by id
        pairs = [(token, number) for number, (token, _) in enumerate(vocabulary)]
    added = content.get("added_tokens") or []
    special = {int(token["id"]) for token in added if token.get("special")} if added else None
    pairs += [(token["content"], token["id"]) for token in added]
    return _by_id(pairs), _spelling_said(content), special


def _by_id(pairs: Any) -> list[str | None]:
    pairs = list(pairs)
    for token, number in pairs:
        if not isinstance(token, str) or not isinstance(number, int) or not 0 <= number < _MOST_TOKENS:
            raise ValueError(f"{str(token)[:40]!r} has the id {str(number)[:40]!r}")
    tokens: list[str | None] = [None] * (max((number for _, number in pairs), default=-1) + 1)
    for token, number in pairs:
        tokens[number] = token
    return tokens


def _spelling_said(content: dict[str, Any]) -> str | None:
    """Return the spelling that a tokenizer.json says, by what its parts are called."""
    parts = json.dumps([content.get("pre_tokenizer"), content.get("decoder")], ensure_ascii=False)
    if '"ByteLevel"' in parts:
        return "byte-level"
    if '"WordPiece"' in parts:
        return "wordpiece"
    return "sentencepiece" if '"Metaspace"' in parts or "▁" in parts else None


def _spelling_of(tokens: Sequence[str | None]) -> str:
    """Return the spelling that the first letters of the tokens tell."""
    firsts = Counter(token[:1] for token in tokens if token)
    mark = max(_MARKS, key=lambda letter: firsts[letter])
    return _MARKS[mark] if firsts[mark] else "plain"
