"""Numbers and foreign text as a reader should see them."""

from __future__ import annotations

import math
import unicodedata

__all__ = ["count", "factor", "number", "percent", "plural", "points", "shorten", "visible"]

# Marks for what is there and cannot be seen. A space stays a space.
_NAMED = {"\n": "⏎", "\t": "⇥", "\x7f": "␡", "\u00a0": "⍽"}
# Letters that show nothing, or turn the text around them: controls, format characters, surrogates, private ones.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def visible(text: str) -> str:
    """Return text in which every control character can be seen and none has an effect."""
    return "".join(_mark(letter) for letter in text)


def _mark(letter: str) -> str:
    if letter in _NAMED:
        return _NAMED[letter]
    if ord(letter) < 0x20:
        return chr(0x2400 + ord(letter))
    if unicodedata.category(letter) in _HIDDEN:
        return f"⟨U+{ord(letter):04X}⟩"
    return letter


def shorten(text: str, length: int) -> str:
    """Return text with its middle left out if it is longer."""
    if len(text) <= length:
        return text
    end = (length - 1) // 2
    return f"{text[: length - 1 - end]}…{text[-end:]}"


def number(value: float | None) -> str:
    """Return a number to three digits, small ones with an exponent."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if size == 0:
        text = "0"
    elif size < 9.995e-4 or size >= 1e6:
        text = f"{size:.2e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    elif size >= 100:
        text = f"{size:,.0f}"
    else:
        text = f"{size:#.3g}"
    return f"−{text}" if value < 0 else text


def percent(share: float | None) -> str:
    """Return a share in percent; 100 % and 0 % only if it is that exactly."""
    if share is None or math.isnan(share):
        return "–"
    text = f"{100 * share:.2f} %"
    if text == "100.00 %":
        return "100 %" if share >= 1 else "> 99.99 %"
    if text == "0.00 %":
        return "0 %" if share == 0 else "< 0.01 %"
    return text


def points(share: float | None) -> str:
    """Return a change of a probability in percentage points, with its sign; 0 only if it is that exactly."""
    if share is None or math.isnan(share):
        return "–"
    return "0" if share == 0 else f"{100 * share:+.2f}".replace("-", "−")


def factor(value: float | None, like: float | None = None) -> str:
    """Return a ratio with as many decimals as show how far it (or `like`) is from 1, three to five."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    if value >= 1000:
        return number(value)
    distance = abs((value if like is None else like) - 1)
    decimals = (
        3 if distance == 0 or not math.isfinite(distance) else min(max(3, 1 - math.floor(math.log10(distance))), 5)
    )
    return f"{value:.{decimals}f}"


def count(value: int) -> str:
    """Return a whole number with its thousands apart."""
    return f"{value:,}"


def plural(value: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{value:,} {noun}" if value == 1 else f"{value:,} {noun}s"
