"""The types of which events are made, and the marks on those that can hold personal data.

::

    class NoteAdded(Event):
        text: Prose          # a string that is not blank, marked FreeText
        about: Names = ()    # a tuple of names

    >>> marked_fields(NoteAdded)["/text"]
    FreeText

The checks that every event passes run inside pydantic's compiled validators: a plain ASCII name
costs no Python call. What the compiled pattern does not know (umlauts, emoji, a mistake) goes to
the function beside it, which accepts it or says what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import Field, GetCoreSchemaHandler, StringConstraints
from pydantic_core import CoreSchema, core_schema

from ledger.asset_ref import check_kind, split_asset_ref
from ledger.canonical import MAX_SAFE_INTEGER, check_name, parse_rfc3339
from ledger.events.explaining import FAST, NUMBER, SLOW, misfit
from ledger.events.free_json import MAX_JSON_NESTING, Json, JsonObject
from ledger.events.markers import FreeText, Marker, Personal, Words

__all__ = [
    "MAX_JSON_NESTING",
    "ActorId",
    "AssetRef",
    "AssetRefs",
    "Count",
    "Digest",
    "Flag",
    "FreeText",
    "Index",
    "Indexes",
    "Json",
    "JsonObject",
    "Kind",
    "Location",
    "Marker",
    "Name",
    "Names",
    "Number",
    "Percent",
    "Personal",
    "PersonalName",
    "Prose",
    "Proses",
    "Root",
    "Stage",
    "Time",
    "Version",
    "Vkey",
    "Word",
    "Words",
    "check_actor",
    "misfit",
]


# ---------------------------------------------------------------------- compiled first, then asked


@dataclass(frozen=True, slots=True)
class _Text:
    """A string: accepted by the compiled pattern `fast`, or by `check`, which raises ValueError.

    Where the pattern says it all, `check` is a function that only refuses.
    """

    fast: str
    check: Callable[[str], object]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        quick = core_schema.str_schema(pattern=self.fast, max_length=512, strict=True)
        careful = core_schema.no_info_after_validator_function(
            self._ask, core_schema.str_schema(strict=True)
        )
        return core_schema.union_schema([(quick, FAST), (careful, SLOW)], mode="left_to_right")

    def _ask(self, text: str) -> str:
        self.check(text)
        return text


@dataclass(frozen=True, slots=True)
class _Number:
    """An integer within ±(2^53-1), or a finite float. pydantic's float would take any integer."""

    least: float | None = None
    most: float | None = None

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        least = -MAX_SAFE_INTEGER if self.least is None else int(self.least)
        most = MAX_SAFE_INTEGER if self.most is None else int(self.most)
        integer = core_schema.int_schema(ge=least, le=most, strict=True)
        number = core_schema.chain_schema(
            [
                core_schema.is_instance_schema(float, cls_repr="number"),
                core_schema.float_schema(
                    ge=self.least, le=self.most, allow_inf_nan=False, strict=True
                ),
            ]
        )
        return core_schema.union_schema([(number, NUMBER), (integer, NUMBER)], mode="left_to_right")


# ------------------------------------------------------------------------------------------ names


def _check_trimmed_name(text: str) -> None:
    check_name(text, "")
    if text != text.strip():
        raise ValueError("a name must not begin or end with a space")


def _check_stage(text: str) -> None:
    _check_trimmed_name(text)
    if "@" in text:
        raise ValueError('a stage must not hold "@": it ends the name of the stream')


def _check_version(text: str) -> None:
    _check_trimmed_name(text)
    if "@" in text:
        raise ValueError('a version must not hold "@": it begins after the last one')


def _refuse_word(text: str) -> None:
    raise ValueError("must be a word: a letter, then at most 63 of A-Z a-z 0-9 _ . + -")


_EMAIL = re.compile(r"[^\s@:]+@[^\s@]+\.[^\s@]+")
_ACTOR = re.compile(r"(?:user|service|agent):\S+")


def check_actor(text: str) -> None:
    """Raises ValueError unless `text` is a principal id: `user:…`, `service:…` or `agent:…`.

    An e-mail address is refused: the ledger never forgets, and an actor is an id, not a name.
    """
    _check_trimmed_name(text)
    if not _ACTOR.fullmatch(text):
        raise ValueError("must be user:<id>, service:<id> or agent:<id>, without spaces")
    if _EMAIL.search(text.partition(":")[2]):
        raise ValueError("looks like an e-mail address: use an id that is not a person's name")


_ASCII_NAME = "[!-~](?:[ -~]*[!-~])?"
_ASCII_WITHOUT_AT = "[!-?A-~](?:[ -?A-~]*[!-?A-~])?"
_ASCII_KIND = "[a-z][a-z0-9_.-]{0,63}"

Name = Annotated[str, _Text(f"^{_ASCII_NAME}$", _check_trimmed_name), Words("name")]
Stage = Annotated[str, _Text(f"^{_ASCII_WITHOUT_AT}$", _check_stage), Words("name without @")]
Version = Annotated[str, _Text(f"^{_ASCII_WITHOUT_AT}$", _check_version), Words("name without @")]
Kind = Annotated[str, _Text(f"^{_ASCII_KIND}$", check_kind), Words("kind")]
Word = Annotated[str, _Text("^[A-Za-z][A-Za-z0-9_.+-]{0,63}$", _refuse_word), Words("word")]
AssetRef = Annotated[
    str,
    _Text(f"^{_ASCII_KIND}/{_ASCII_NAME}@{_ASCII_WITHOUT_AT}$", split_asset_ref),
    Words("asset version"),
]
ActorId = Annotated[
    str, _Text("^(?:user|service|agent):[!-?A-~]+$", check_actor), Words("actor id"), Personal
]
PersonalName = Annotated[Name, Personal]

Names = Annotated[tuple[Name, ...], Field(strict=False)]
AssetRefs = Annotated[tuple[AssetRef, ...], Field(strict=False)]


# ------------------------------------------------------------------------------- digests and times

_HEX_LENGTHS: Final = {"md5": 32, "sha1": 40, "sha256": 64, "sha384": 96, "sha512": 128}
_DIGEST = re.compile(r"([a-z0-9]+(?:[+._-][a-z0-9]+)*):([0-9a-f]+)", re.ASCII)


def _check_digest(text: str) -> None:
    match = _DIGEST.fullmatch(text)
    if not match:
        raise ValueError("must be <algorithm>:<lower-case hex>, for example sha256:9f86d0…")
    algorithm, digits = match.groups()
    length = _HEX_LENGTHS.get(algorithm)
    if length is not None and len(digits) != length:
        raise ValueError(f"a {algorithm} digest has {length} hex digits, this one {len(digits)}")
    if not 32 <= len(digits) <= 512:
        raise ValueError(f"a digest has 32 to 512 hex digits, this one {len(digits)}")


def _refuse_vkey(text: str) -> None:
    raise ValueError("must be a verifier key: <name>+<8 hex digits>+<base64>")


_EASY_TIME = (  # days 29 to 31, other spellings and mistakes are for the careful reader
    "^[2-9][0-9]{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])"
    "T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:[.][0-9]{1,6})?Z$"
)

_VKEY = r"^[^\s+]+[+][0-9a-f]{8}[+][A-Za-z0-9+/]+={0,2}$"

Digest = Annotated[str, _Text("^sha256:[0-9a-f]{64}$", _check_digest), Words("digest")]
Root = Digest
Time = Annotated[str, _Text(_EASY_TIME, parse_rfc3339), Words("time")]
Vkey = Annotated[str, _Text(_VKEY, _refuse_vkey), Words("verifier key")]


# ------------------------------------------------------------------------------------ numbers, text

Flag = Annotated[bool, Words("true or false")]
Number = Annotated[float, _Number(), Words("number")]
Percent = Annotated[float, _Number(0, 100), Words("percent, 0 to 100")]
Count = Annotated[int, Field(ge=0, le=MAX_SAFE_INTEGER), Words("integer, 0 or more")]
Index = Annotated[int, Field(ge=0, le=MAX_SAFE_INTEGER), Words("entry index")]
Indexes = Annotated[tuple[Index, ...], Field(strict=False)]

Prose = Annotated[str, StringConstraints(pattern=r"\S"), Words("text"), FreeText]
Proses = Annotated[tuple[Prose, ...], Field(strict=False)]
Location = Annotated[str, StringConstraints(pattern=r"\S"), Words("URI or path"), FreeText]
