"""References to asset versions: they split into what they were made of."""

from __future__ import annotations

import pytest
from hypothesis import given

from ledger.asset_ref import AssetRefParts, check_kind, format_asset_ref, split_asset_ref
from ledger.errors import MalformedError
from tests.support.event_strategies import BY_WORDS, KINDS, NAMES


@pytest.mark.parametrize(
    ("ref", "parts"),
    [
        ("model/forecaster@7", ("model", "forecaster", "7")),
        ("dataset/eu/orders@2026-11-20", ("dataset", "eu/orders", "2026-11-20")),
        ("code/@scope/pkg@1.2.3", ("code", "@scope/pkg", "1.2.3")),
        ("environment/image@sha256:ab/cd", ("environment", "image", "sha256:ab/cd")),
    ],
)
def test_the_first_slash_and_the_last_at(ref: str, parts: tuple[str, str, str]) -> None:
    assert split_asset_ref(ref) == AssetRefParts(*parts)
    assert format_asset_ref(*parts) == ref


@given(kind=KINDS, name=NAMES, version=NAMES.filter(lambda text: "@" not in text))
def test_a_made_reference_splits_into_its_parts(kind: str, name: str, version: str) -> None:
    assert split_asset_ref(format_asset_ref(kind, name, version)) == (kind, name, version)


@given(ref=BY_WORDS["asset version"])
def test_a_split_reference_is_made_again(ref: str) -> None:
    assert format_asset_ref(*split_asset_ref(ref)) == ref


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("forecaster@7", "<kind>/<name>@<version>"),
        ("model/forecaster", "<kind>/<name>@<version>"),
        ("Model/a@1", "not a kind"),
        ("/a@1", "not a kind"),
        ("model/@1", "name: a name has 1 to 512"),
        ("model/a@", "version: a name has 1 to 512"),
        ("model/a @1", "the name 'a ' begins or ends with a space"),
        ("model/a@ 1", "the version ' 1'"),
        ("model/a\x00@1", "control character"),
        ("model/" + "a" * 506 + "@1", "asset version: a name has 1 to 512"),
    ],
)
def test_what_is_no_reference_says_why(ref: str, words: str) -> None:
    with pytest.raises(MalformedError, match=words):
        split_asset_ref(ref)


def test_a_version_with_an_at_is_refused_when_made() -> None:
    with pytest.raises(MalformedError, match='must not hold "@"'):
        format_asset_ref("model", "a", "1@2")


@pytest.mark.parametrize("kind", ["", "Model", "1a", "a b", "a/b", "a" * 65, "ä"])
def test_kinds_have_a_form(kind: str) -> None:
    with pytest.raises(MalformedError, match="not a kind"):
        check_kind(kind)
