"""The texts of tokens, by id: from a JSON list, a Hugging Face ``tokenizer.json``, or a file with one text a line."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any

from .errors import InputError, reason_of

__all__ = ["read_token_texts"]


def read_token_texts(path: str | PathLike[str]) -> list[str]:
    r"""Return the text of each token id.

    Parameters
    ----------
    path : path
        A JSON list of strings, a ``tokenizer.json``, or one text a line in UTF-8.

    Returns
    -------
    list of str
        By token id; an id that the tokenizer leaves out has the empty text. Pieces of bytes that are no UTF-8 by
        themselves are written as ``\xNN``.

    Raises
    ------
    InputError
        If the file cannot be read, or is none of these.

    Examples
    --------
    >>> import json, os, tempfile
    >>> from kullback.scoring.token_texts import read_token_texts
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "texts.json")
    ...     with open(path, "w") as file:
    ...         json.dump(["<s>", " the"], file)
    ...     read_token_texts(path)
    ['<s>', ' the']
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path} holds no token texts: it is not UTF-8") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        if Path(path).suffix == ".json":
            raise InputError(f"{path} holds no token texts: {reason_of(error)}") from None
        return text.split("\n")[: -1 if text.endswith("\n") else None]
    if isinstance(content, list) and all(isinstance(item, str) for item in content):
        return content
    try:
        return _from_tokenizer(content)
    except (AttributeError, KeyError, TypeError, ValueError):
        expected = "a JSON list of strings, a tokenizer.json, or one text a line"
        raise InputError(f"{path} holds no token texts; expected {expected}") from None


def _from_tokenizer(content: Any) -> list[str]:
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, list):  # Unigram: [text, score] by id
        vocabulary = {piece[0]: index for index, piece in enumerate(vocabulary)}
    texts = {int(index): piece for piece, index in vocabulary.items()}
    if '"ByteLevel"' in json.dumps([content.get("decoder"), content.get("pre_tokenizer")]):
        texts = {index: _from_bytes(piece) for index, piece in texts.items()}
    else:
        texts = {index: piece.replace("▁", " ") for index, piece in texts.items()}
    texts |= {int(token["id"]): str(token["content"]) for token in content.get("added_tokens") or ()}
    if not texts or min(texts) < 0 or max(texts) > 1 << 24:
        raise ValueError("ids out of range")
    return [texts.get(index, "") for index in range(max(texts) + 1)]


def _byte_letters() -> dict[str, int]:
    """Return the letters that byte-level tokenizers write bytes as: themselves if printable, else from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


_BYTES = _byte_letters()


def _from_bytes(piece: str) -> str:
    if not all(letter in _BYTES for letter in piece):
        return piece
    return bytes(_BYTES[letter] for letter in piece).decode("utf-8", "backslashreplace")
