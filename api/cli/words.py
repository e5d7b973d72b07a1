"""How instants, digests and sizes are written for people."""

from __future__ import annotations

__all__ = ["count_text", "digest_text", "short_text", "time_of", "time_text", "version_text"]

_SHORT = 12  # hexadecimal digits of a digest that a table shows
_LONG = 32
_HEX = frozenset("0123456789abcdef")


def time_text(instant: int | None, *, exact: bool = False) -> str:
    """An instant in UTC with its offset: to the second for people, or exactly."""
    if instant is None:
        return ""
    from ledger.canonical import format_time

    text = format_time(instant)
    return text if exact else time_of(text)


def time_of(text: str | None) -> str:
    """`2026-11-21T05:00:00.123456Z` as `2026-11-21 05:00:00+00:00`; other text stays as it is."""
    if not text or len(text) != 27 or not text.endswith("Z") or text[10] != "T":
        return text or ""
    return f"{text[:10]} {text[11:19]}+00:00"


def digest_text(digest: str | None) -> str:
    """`sha256:` and the first twelve digits; the whole digest is in JSON and CSV."""
    if not digest:
        return ""
    name, colon, value = digest.partition(":")
    return f"{name}:{value[:_SHORT]}" if colon else name[:_SHORT]


def version_text(ref: str) -> str:
    """An asset version; a version that is a whole digest or commit is cut to twelve digits and `…`.

    What is shown may be typed: commands take the beginning of a version where only one has it.
    """
    asset, at, version = ref.rpartition("@")
    if len(version) < _LONG or not set(version) <= _HEX:
        return ref
    return f"{asset}{at}{version[:_SHORT]}…"


def short_text(text: str, most: int = 60) -> str:
    """A value in a line of words: digests and commits cut to twelve digits, long text to `most`."""
    if len(text) >= _LONG and set(text.rpartition(":")[2]) <= _HEX:
        name, colon, value = text.rpartition(":")
        return f"{name}{colon}{value[:_SHORT]}…"
    return text if len(text) <= most else text[: most - 1] + "…"


def count_text(number: int, noun: str, plural: str = "") -> str:
    """`1 entry`, `3 entries`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
