"""Every single bit of a bundle, flipped: both verifiers report it, and none ends in a traceback."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator

import pytest

from ledger.bundle import check_bundle
from ledger.note import format_vkey
from ledger.verdict import Verdict
from tests.support.claims import (
    SIGNER,
    entries_bundle,
    members_of,
    pack,
    resealed,
    state_bundle,
    story,
    verifier,
)

VKEY = format_vkey(SIGNER.vkey)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Two entries, one payload: the least that a bundle is."""
    with story() as told:
        path = entries_bundle(told, tmp_path_factory.mktemp("bits") / "b.zip", [7])
    return path.read_bytes()


@pytest.fixture(scope="module")
def told_state(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    with story() as told:
        path = state_bundle(told, tmp_path_factory.mktemp("bits") / "s.zip")
    return members_of(path.read_bytes())


def flips(data: bytes, positions: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """(bit, the bytes with that bit flipped), for every bit of each position."""
    changed = bytearray(data)
    for position in positions:
        for bit in range(8):
            changed[position] ^= 1 << bit
            yield 8 * position + bit, bytes(changed)
            changed[position] ^= 1 << bit


def survey(data: bytes, positions: Iterable[int]) -> dict[str, int]:
    """How many flips got which verdict; the two verifiers must agree on each."""
    counts: dict[str, int] = {}
    check = verifier().check
    for bit, changed in flips(data, positions):
        theirs = check(changed, VKEY).result
        ours = check_bundle(changed, vkey=SIGNER.vkey).result
        assert ours.value == theirs, f"bit {bit}: {ours} by the product, {theirs} by verify.py"
        counts[theirs] = counts.get(theirs, 0) + 1
    return counts


def code_at(data: bytes) -> tuple[int, int]:
    """Where the bytes of verify.py lie: most of a small bundle, and of one kind."""
    code = members_of(data)["verify.py"]
    start = data.index(code)
    return start, start + len(code)


# Counting branches doubles the time of a search: the long ones are not counted, the samples are.
@pytest.mark.no_cover
def test_each_bit_outside_the_program_is_reported(
    small: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    start, stop = code_at(small)
    counts = survey(small, [*range(start), *range(stop, len(small))])
    with capsys.disabled():
        sys.stdout.write(f"\n{sum(counts.values())} single bits of a bundle: {counts} ")
    assert counts.keys() <= {"INVALID", "ERROR"} and sum(counts.values()) > 40_000


def test_bits_inside_the_program_are_reported(small: bytes) -> None:
    start, stop = code_at(small)
    sample = random.Random(1).sample(range(start, stop), 400)
    assert survey(small, sample).keys() == {"INVALID"}


def test_bits_at_both_ends_are_reported(small: bytes) -> None:
    """The first header, the last entry of the directory, and the end record."""
    ends = [*range(60), *range(len(small) - 120, len(small))]
    counts = survey(small, ends)
    assert counts.keys() <= {"INVALID", "ERROR"} and sum(counts.values()) == 8 * 180


@pytest.mark.no_cover
@pytest.mark.long
def test_every_bit_of_the_file_is_reported(small: bytes) -> None:
    counts = survey(small, range(len(small)))
    assert counts.keys() <= {"INVALID", "ERROR"} and sum(counts.values()) == 8 * len(small)


def test_cut_at_every_length_and_lengthened_it_is_reported(small: bytes) -> None:
    check = verifier().check
    for length in range(0, len(small), 97):
        ours = check_bundle(small[:length], vkey=SIGNER.vkey).result
        assert ours.value == check(small[:length], VKEY).result != "VALID"
    for longer in (small + b"\0", b"\0" + small, small + small, small + small[-22:]):
        assert check_bundle(longer, vkey=SIGNER.vkey).result.value == check(longer, VKEY).result
        assert check(longer, VKEY).result != "VALID"


@pytest.mark.no_cover
def test_flips_behind_right_checksums_are_reported(told_state: dict[str, bytes]) -> None:
    """The attacker mends the CRCs: now the manifest has to find it."""
    chosen = random.Random(2)
    for name, content in told_state.items():
        for _ in range(8):
            changed = bytearray(content)
            changed[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)
            data = pack({**told_state, name: bytes(changed)})
            ours, theirs = check_bundle(data, vkey=SIGNER.vkey), verifier().check(data, VKEY)
            assert ours.result is Verdict.INVALID and theirs.result == "INVALID"


@pytest.mark.no_cover
def test_flips_that_an_insider_seals_again_are_reported(told_state: dict[str, bytes]) -> None:
    """The attacker even has the key and signs a new manifest: tree and commitments are left."""
    chosen = random.Random(3)
    evidence = ("entries/", "payloads/", "proofs/", "checkpoint", "tile/")
    missed = []
    for name, content in told_state.items():
        if not name.startswith(evidence):
            continue
        for _ in range(4):
            changed = bytearray(content)
            changed[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)
            data = resealed({**told_state, name: bytes(changed)})
            ours, theirs = check_bundle(data, vkey=SIGNER.vkey), verifier().check(data, VKEY)
            assert ours.result.value == theirs.result
            missed += [name] if ours.result is Verdict.VALID else []
    assert missed == []


def test_the_harness_would_notice(small: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a verifier that skips its first two steps lets flips pass."""
    module = verifier()
    monkeypatch.setattr(module.zlib, "crc32", lambda data: 0)
    assert module.check(small, VKEY).result == "INVALID"
    start, _ = code_at(small)
    changed = bytearray(small)
    changed[start] ^= 1
    monkeypatch.undo()
    monkeypatch.setattr(module, "check_listed", lambda *_: None)
    sealed = pack({**members_of(small), "verify.py": b"another program"})
    assert module.check(sealed, VKEY).result == "VALID"
