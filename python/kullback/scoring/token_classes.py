"""What a token is, by its text: the start of a word, a number, a line break, a mark that steers a chat, and so on."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["CLASSES", "class_of", "looks_special"]

# In the order in which tables show them.
CLASSES = (
    "word_start",
    "word_continuation",
    "unspaced_script",
    "number",
    "punctuation",
    "newline",
    "whitespace",
    "bytes",
    "special",
    "unknown",
)

# Chinese, Japanese, Thai, Lao, Tibetan, Burmese, Khmer: no spaces, so that no token tells whether it starts a word.
_UNSPACED = (
    *((0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3040, 0x312F)),
    *((0x31A0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x20000, 0x3FFFF)),
)

# Marks of the usual models, for lists of texts that do not say which are special.
_SPECIAL = re.compile(
    r"<\|[^|]*\|>|<｜[^｜]*｜>|</?(?:s|pad|unk|bos|eos|cls|sep|mask|start_of_turn|end_of_turn)>"
    r"|<(?:unused|extra_id_|reserved)[^>]*>|\[/?[A-Z_]{2,}\d*\]"
)


def looks_special(text: str) -> bool:
    """Tell whether a text is spelled like a mark that is no part of the language, such as ``<|endoftext|>``."""
    return _SPECIAL.fullmatch(text) is not None


def class_of(text: str) -> str:
    r"""Return the class of a token that is text, as it stands in the output.

    The first letter or digit decides. A letter right after white space starts a word, any other continues one, or
    starts one after a mark or a line break.

    Examples
    --------
    >>> [class_of(text) for text in (" the", "ing", " 42", ");", "\n", "    ", "語")]
    ['word_start', 'word_continuation', 'number', 'punctuation', 'newline', 'whitespace', 'unspaced_script']
    """
    if not text:
        return "special"
    if text.isspace():
        return "newline" if "\n" in text or "\r" in text else "whitespace"
    visible = False
    for position, character in enumerate(text):
        category = unicodedata.category(character)
        if category[0] == "N":
            return "number"
        if category[0] in "LM":
            if any(low <= ord(character) <= high for low, high in _UNSPACED):
                return "unspaced_script"
            return "word_start" if position and text[position - 1].isspace() else "word_continuation"
        visible = visible or category[0] in "PS"
    return "punctuation" if visible else "bytes"
