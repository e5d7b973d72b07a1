"""Text that is safe to show: what others wrote must not move the cursor, recolour or reverse a
line.

Ledger text is free text from many systems. On a terminal `ESC [2J` clears the screen, and U+202E
turns `exe.txt` around; in a spreadsheet `=HYPERLINK(…)` is a formula. So every string passes one of
these::

    plain(text)       for people: controls and direction marks as \\x1b, \\u202e
    json_safe(text)   JSON source: the same characters as JSON escapes; the value is unchanged
    cell(value)       CSV: as plain, and a leading = + - @ TAB CR gets an apostrophe before it
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Ink", "cell", "json_safe", "plain", "width"]

_DIRECTION = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_BREAKS = "\u2028\u2029\ufeff"
_UNSAFE = re.compile(f"[\x00-\x1f\x7f-\x9f{_DIRECTION}{_BREAKS}\ud800-\udfff]")
_UNSAFE_IN_CSV = re.compile(
    f"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f{_DIRECTION}{_BREAKS}\ud800-\udfff]"
)
_UNSAFE_IN_JSON = re.compile(f"[\x7f-\x9f{_DIRECTION}{_BREAKS}\ud800-\udfff]")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def plain(text: str) -> str:
    """Return `text` with everything that steers a terminal written out."""
    return _UNSAFE.sub(_escape, text)


def json_safe(text: str) -> str:
    """Escape the same characters in JSON source, where they can only stand inside strings."""
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def cell(value: object) -> str:
    """Return a CSV cell: numbers as they are, text that no spreadsheet takes for a formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return str(value)
    text = _UNSAFE_IN_CSV.sub(_escape, value)
    return "'" + text if text.startswith(_FORMULA) else text


def width(text: str) -> int:
    """Columns that `text` takes on a terminal: two for CJK and emoji, none for combining marks."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


@dataclass(frozen=True, slots=True)
class Ink:
    """Colour, or none: a pen that writes plain text when it is switched off."""

    on: bool

    def bold(self, text: str) -> str:
        return self._paint("1", text)

    def dim(self, text: str) -> str:
        return self._paint("2", text)

    def good(self, text: str) -> str:
        return self._paint("1;32", text)

    def bad(self, text: str) -> str:
        return self._paint("1;31", text)

    def warn(self, text: str) -> str:
        return self._paint("1;33", text)

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.on and text else text
