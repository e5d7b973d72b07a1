#!/usr/bin/env python3
"""Check an asof bundle, or one proof, offline: no network, no product, no third-party module.

    python3 -I -S verify.py bundle.zip --vkey 'ledger.example.com/acme+5cbf3414+AQOhB7...'
    python3 -I -S verify.py 41.tlog-proof --entry 41.json --vkey '...'

Python 3.8 or newer, standard library only. It shares no code with the program that made the
bundle: own reader for the ZIP container (nothing is ever extracted), own strict JSON, own Ed25519
verification (RFC 8032), own Merkle proofs (RFC 9162), own recomputation of the state of a pipeline.
The numbered steps are those of docs/spec/bundle.md; every finding names its step.

    exit 0  VALID        everything that the bundle claims was checked and holds
    exit 1  INVALID      something is not what was signed: each finding says what
    exit 7  INCOMPLETE   nothing is wrong, but part of the claim could not be checked
    exit 8  ERROR        this is not a bundle, or it cannot be examined
    exit 2  wrong usage
"""

# ruff: noqa: UP017, UP031 - this file runs on Python 3.8
# mypy: ignore-errors

import argparse
import base64
import binascii
import datetime
import hashlib
import json
import math
import mmap
import re
import struct
import sys
import unicodedata
import zlib

VALID, INVALID, INCOMPLETE, ERROR = "VALID", "INVALID", "INCOMPLETE", "ERROR"
EXIT_CODES = {VALID: 0, INVALID: 1, INCOMPLETE: 7, ERROR: 8}

STEPS = (
    "1 container",
    "2 manifest",
    "3 keys",
    "4 signature",
    "5 checkpoint",
    "6 basis",
    "7 entries",
    "8 proofs",
    "9 links",
    "10 payloads",
    "11 completeness",
    "12 answer",
)
(CONTAINER, MANIFEST, KEYS, SIGNATURE, CHECKPOINT, BASIS) = STEPS[:6]
(ENTRIES, PROOFS, LINKS, PAYLOADS, COMPLETENESS, ANSWER) = STEPS[6:]

UTC = datetime.timezone.utc
MAX_BUNDLE = 1 << 30
MAX_FINDINGS = 1000
MAX_INDEX = (1 << 53) - 1
MAX_DEPTH = 64

ERASURE_TYPES = ("payload.redacted/1", "record.disposed/1", "subject.erased/1")


class RefusedError(Exception):
    """Bytes that are not what they must be. `expected` and `found` are text for a finding."""

    def __init__(self, message, expected="", found="", index=None):
        super().__init__(message)
        self.message = message
        self.expected = str(expected)
        self.found = str(found)
        self.index = index


class UnreadableError(Exception):
    """Not a bundle at all, or beyond the limits: the verdict is ERROR, not INVALID."""


# --- report ---------------------------------------------------------------------------------------


class Report:
    """What was checked, what was not, and what was found; the verdict follows from these alone."""

    def __init__(self):
        self.checked = {}
        self.entries = 0
        self.findings = []
        self.notes = []
        self.not_checked = []
        self.incomplete = []
        self.error = None

    def find(self, step, message, index=None, member=None, expected="", found=""):
        """Record that something is wrong: the verdict becomes INVALID."""
        if len(self.findings) < MAX_FINDINGS:
            finding = {"step": step, "index": index, "place": member, "message": message}
            finding["expected"], finding["found"] = str(expected), str(found)
            self.findings.append(finding)

    def refuse(self, step, refused, index=None, member=None):
        """Record a RefusedError as a finding."""
        at = refused.index if index is None else index
        self.find(step, refused.message, at, member, refused.expected, refused.found)

    def lack(self, text):
        """Record that part of the claim could not be checked: at best INCOMPLETE."""
        self.incomplete.append(text)
        self.not_checked.append(text)

    @property
    def result(self):
        if self.error is not None:
            return ERROR
        if self.findings:
            return INVALID
        return INCOMPLETE if self.incomplete else VALID

    def as_json(self):
        return {
            "result": self.result,
            "entries": self.entries,
            "checked": self.checked,
            "not_checked": self.not_checked,
            "notes": self.notes,
            "findings": self.findings,
            "error": self.error,
        }


# --- text, numbers, time --------------------------------------------------------------------------


def shown(value, limit=200):
    """Text that is safe to print: no control, bidi or other invisible signs, and not too long."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(value)[: limit + 1])
    return text if len(text) <= limit else text[:limit] + "..."


def parse_decimal(text):
    """A number without sign, leading zeros or foreign digits, at most 2^53 - 1."""
    if not re.fullmatch(r"0|[1-9][0-9]{0,15}", text) or int(text) > MAX_INDEX:
        raise RefusedError("not a decimal number", "digits without leading zeros", shown(text, 40))
    return int(text)


def parse_base64(text):
    """RFC 4648 section 4 with padding, and only its one right spelling."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (ValueError, binascii.Error):
        raise RefusedError("not base64", "RFC 4648 section 4", shown(text, 80)) from None
    if base64.b64encode(data).decode("ascii") != text:
        raise RefusedError(
            "base64 that has another spelling", base64.b64encode(data).decode(), text
        )
    return data


def parse_hash(text):
    """A base64 SHA-256 hash."""
    data = parse_base64(text)
    if len(data) != 32:
        raise RefusedError("not a SHA-256 hash", "32 bytes", f"{len(data)} bytes")
    return data


def parse_hex(value, field):
    """A lower-case hexadecimal SHA-256 hash."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
        raise RefusedError(
            f"{field} is not a SHA-256 hash in hex", "64 hex digits", shown(value, 80)
        )
    return bytes.fromhex(value)


def parse_time(text):
    """Microseconds since 1970 of `YYYY-MM-DDTHH:MM:SS.ffffffZ`, exactly that form."""
    form = r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})\.([0-9]{6})Z"
    match = re.fullmatch(form, text) if isinstance(text, str) else None
    if match is None:
        raise RefusedError("not an instant", "YYYY-MM-DDTHH:MM:SS.ffffffZ", shown(text, 60))
    try:
        moment = datetime.datetime(*map(int, match.groups()), tzinfo=UTC)
    except ValueError:
        raise RefusedError("no such instant", "a date that exists", text) from None
    span = moment - datetime.datetime(1970, 1, 1, tzinfo=UTC)
    return (span.days * 86400 + span.seconds) * 1000000 + span.microseconds


# --- strict JSON ----------------------------------------------------------------------------------


def parse_json(data):
    """The value of UTF-8 JSON bytes: no duplicate names, NaN, huge numbers, surrogates, depth."""
    try:
        text = bytes(data).decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=unique_object,
            parse_constant=no_constant,
            parse_float=finite_float,
            parse_int=exact_int,
        )
        check_depth(value)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeError:
        raise RefusedError("not UTF-8 text", "UTF-8", "other bytes or a lone surrogate") from None
    except RecursionError:
        raise RefusedError("JSON nested too deeply", MAX_DEPTH, "more") from None
    except ValueError as error:
        raise RefusedError("not JSON", "JSON", shown(error)) from None
    return value


def unique_object(pairs):
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return value


def no_constant(text):
    raise ValueError(f"{text} is not JSON")


def finite_float(text):
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{shown(text, 40)} is too large")
    return value


def exact_int(text):
    if len(text) > 17 or not -MAX_INDEX <= int(text) <= MAX_INDEX:
        raise ValueError(f"{shown(text, 40)} is not an exact integer")
    return int(text)


def check_depth(value):
    level, depth = [value], 0
    while level:
        inner = []
        for item in level:
            inner.extend(item.values() if isinstance(item, dict) else ())
            inner.extend(item if isinstance(item, list) else ())
        nested = any(isinstance(item, (dict, list)) for item in level)
        depth, level = depth + nested, inner
        if depth > MAX_DEPTH:
            raise RecursionError


def canonical(value):
    """RFC 8785 (JCS) bytes of a JSON value."""
    return jcs(value).encode("utf-8")


def jcs(value):
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(jcs(name) + ":" + jcs(value[name]) for name in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(jcs(item) for item in value) + "]"
    if isinstance(value, float):
        return jcs_float(value)
    return json.dumps(value, ensure_ascii=False)


def jcs_float(value):
    """A number as ECMAScript writes it: shortest digits, the layout of RFC 8785 section 3.2.2.3."""
    if value == 0:
        return "0"
    sign, value = ("-", -value) if value < 0 else ("", value)
    mantissa, _, exponent = (f"{value!r}").partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    point = len(whole) + int(exponent or 0)
    digits = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        return sign + digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return sign + digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return sign + "0." + "0" * -point + digits
    tail = "." + digits[1:] if len(digits) > 1 else ""
    return "%s%s%se%+d" % (sign, digits[0], tail, point - 1)


# --- Ed25519, RFC 8032 section 5.1.7 --------------------------------------------------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_MINUS_ONE = pow(2, (P - 1) // 4, P)
NEUTRAL = (0, 1, 1, 0)


def point_add(a, b):
    """The sum of two points in extended coordinates (X, Y, Z, T); complete, so it doubles too."""
    e = (a[1] - a[0]) * (b[1] - b[0]) % P
    f = (a[1] + a[0]) * (b[1] + b[0]) % P
    g = 2 * a[3] * b[3] * D % P
    h = 2 * a[2] * b[2] % P
    i, j, k, m = f - e, h - g, h + g, f + e
    return (i * j % P, k * m % P, j * k % P, i * m % P)


def point_decode(data):
    """The point of 32 bytes; None for every encoding that is not the canonical one of a point."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * SQRT_MINUS_ONE % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return (x, y, 1, x * y % P)


def point_encode(point):
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


BASE = point_decode((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def combine(s, b, h, a):
    """s*b + h*a: both multiplications in one pass over the bits."""
    table = (NEUTRAL, b, a, point_add(b, a))
    total = NEUTRAL
    for bit in range(max(s.bit_length(), h.bit_length()) - 1, -1, -1):
        total = point_add(total, total)
        choice = (s >> bit & 1) | (h >> bit & 1) << 1
        if choice:
            total = point_add(total, table[choice])
    return total


def is_small_order(point):
    for _ in range(3):
        point = point_add(point, point)
    return point_encode(point) == point_encode(NEUTRAL)


def ed25519_holds(public_key, message, signature):
    """True only for what RFC 8032 accepts: S below L, canonical points; no key of small order."""
    if len(public_key) != 32 or len(signature) != 64:
        return False
    s = int.from_bytes(signature[32:], "little")
    key = point_decode(public_key)
    if s >= L or key is None or is_small_order(key):
        return False
    digest = hashlib.sha512(signature[:32] + public_key + message).digest()
    h = int.from_bytes(digest, "little") % L
    minus_key = (P - key[0], key[1], 1, P - key[3])
    return point_encode(combine(s, BASE, h, minus_key)) == signature[:32]


# --- signed notes (C2SP signed-note) --------------------------------------------------------------


class Key:
    """A verifier key: `<name>+<8 hex of the key id>+base64(0x01 || public key)`."""

    def __init__(self, vkey):
        name, _, rest = vkey.partition("+")
        key_id, _, encoded = rest.partition("+")
        data = parse_base64(encoded)
        check_key_name(name)
        if len(data) != 33 or data[0] != 1:
            raise RefusedError("not an Ed25519 verifier key", "type 1 and 32 bytes", shown(vkey))
        right = hashlib.sha256(name.encode("utf-8") + b"\n" + data).digest()[:4]
        if key_id != right.hex():
            raise RefusedError("the key id is not that of the key", right.hex(), shown(key_id, 20))
        self.name, self.key_id, self.public_key, self.text = name, right, data[1:], vkey


def check_key_name(name):
    if not name or "+" in name or any(c.isspace() or not c.isprintable() for c in name):
        raise RefusedError(
            "not a key name", "no space, no +, no control character", shown(name, 60)
        )


def open_note(data, key):
    """The text of a signed note whose signature by `key` holds, and the number of other lines."""
    text, lines = split_note(data)
    good, other = False, 0
    for line in lines:
        name, key_id, signature = parse_signature_line(line)
        if name != key.name or key_id != key.key_id:
            other += 1
        elif not ed25519_holds(key.public_key, text.encode("utf-8"), signature):
            raise RefusedError("the signature is wrong", "a signature by " + key.text, line)
        else:
            good = True
    if not good:
        raise RefusedError("not signed by the key", key.text, f"{other} other signatures")
    return text, other


def split_note(data):
    try:
        whole = bytes(data).decode("utf-8")
    except UnicodeError:
        raise RefusedError("a note is UTF-8 text", "UTF-8", "other bytes") from None
    if any(ord(c) < 32 and c != "\n" for c in whole):
        raise RefusedError("a note has no control characters", "text", "a control character")
    at = whole.rfind("\n\n")
    if at < 0 or not whole.endswith("\n"):
        raise RefusedError(
            "not a signed note", "text, an empty line, signature lines", "no such parts"
        )
    text, lines = whole[: at + 1], whole[at + 2 : -1].split("\n")
    if len(lines) > 100:
        raise RefusedError("too many signatures", 100, len(lines))
    return text, lines


def parse_signature_line(line):
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "\u2014":
        raise RefusedError("not a signature line", "\u2014 <name> <base64>", shown(line))
    check_key_name(parts[1])
    data = parse_base64(parts[2])
    if len(data) < 5:
        raise RefusedError("a signature is too short", "key id and signature", shown(line))
    return parts[1], data[:4], data[4:]


def open_checkpoint(data, key):
    """(size, root, other signatures) of a checkpoint signed by `key`, whose name is its origin."""
    text, other = open_note(data, key)
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] != "":
        raise RefusedError("not a checkpoint", "origin, size, root", "%s lines" % (len(lines) - 1))
    if lines[0] != key.name:
        raise RefusedError("a checkpoint of another ledger", key.name, shown(lines[0]))
    return parse_decimal(lines[1]), parse_hash(lines[2]), other


# --- tree (RFC 9162) ------------------------------------------------------------------------------


def leaf_hash(data):
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


EMPTY_ROOT = hashlib.sha256(b"").digest()


def check_inclusion(index, size, leaf, proof, root):
    if not 0 <= index < size:
        raise RefusedError("the entry is beyond the tree", f"an index below {size}", index)
    inner = (index ^ (size - 1)).bit_length()
    border = bin(index >> inner).count("1")
    if len(proof) != inner + border:
        raise RefusedError("the proof has a wrong length", inner + border, len(proof))
    found = leaf
    for level, sibling in enumerate(proof[:inner]):
        left = index >> level & 1
        found = node_hash(sibling, found) if left else node_hash(found, sibling)
    for sibling in proof[inner:]:
        found = node_hash(sibling, found)
    if found != root:
        raise RefusedError("the entry is not in the signed tree", root.hex(), found.hex())


def check_consistency(size1, size2, proof, root1, root2):
    if not 0 < size1 <= size2:
        raise RefusedError("the basis is not a part of the tree", f"1..{size2}", size1)
    if size1 == size2:
        if proof or root1 != root2:
            raise RefusedError("the basis is not the signed tree", root2.hex(), root1.hex())
        return
    inner = ((size1 - 1) ^ (size2 - 1)).bit_length()
    border = bin((size1 - 1) >> inner).count("1")
    shift = (size1 & -size1).bit_length() - 1
    inner -= shift
    whole = size1 == 1 << shift
    if len(proof) != inner + border + (not whole):
        raise RefusedError("the proof has a wrong length", inner + border + (not whole), len(proof))
    seed, rest = (root1, proof) if whole else (proof[0], proof[1:])
    mask = (size1 - 1) >> shift
    old = new = seed
    for level, sibling in enumerate(rest[:inner]):
        if mask >> level & 1:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
        else:
            new = node_hash(new, sibling)
    for sibling in rest[inner:]:
        old, new = node_hash(sibling, old), node_hash(sibling, new)
    if old != root1 or new != root2:
        raise RefusedError("the basis is not a part of the signed tree", root2.hex(), new.hex())


class Tree:
    """Roots of a growing tree: the perfect subtrees of its right edge, each as (level, hash)."""

    def __init__(self):
        self.edge = []

    def append(self, leaf):
        level = 0
        while self.edge and self.edge[-1][0] == level:
            leaf = node_hash(self.edge.pop()[1], leaf)
            level += 1
        self.edge.append((level, leaf))

    def root(self):
        if not self.edge:
            return EMPTY_ROOT
        found = self.edge[-1][1]
        for _, left in reversed(self.edge[:-1]):
            found = node_hash(left, found)
        return found


# --- entries and proofs ---------------------------------------------------------------------------

ENTRY_FIELDS = ("actor", "commitment", "index", "ledger", "prev")
ENTRY_FIELDS += ("recorded_at", "stream", "type", "v", "version")


def parse_entry(data, index, ledger):
    """The fields of canonical entry bytes that say they are entry `index` of `ledger`."""
    entry = parse_json(data)
    if not isinstance(entry, dict) or tuple(sorted(entry)) != ENTRY_FIELDS:
        raise RefusedError("not an entry", ", ".join(ENTRY_FIELDS), shown(entry))
    if any(type(entry[name]) is not int for name in ("index", "v", "version")):
        raise RefusedError("not an entry", "integers in index, v, version", shown(entry))
    if canonical(entry) != data:
        raise RefusedError("the entry is not canonical", shown(jcs(entry)), shown(data))
    if entry["v"] != 1:
        raise RefusedError("an unknown version of the entry format", 1, entry["v"])
    if entry["index"] != index:
        raise RefusedError("another entry lies in this place", index, entry["index"])
    if entry["ledger"] != ledger:
        raise RefusedError("an entry of another ledger", ledger, shown(entry["ledger"]))
    if entry["version"] < 1:
        raise RefusedError("a stream version counts from 1", 1, entry["version"])
    for name in ("actor", "stream", "type"):
        check_name(entry[name], name)
    for name in ("commitment", "prev"):
        entry[name] = parse_hex(entry[name], name)
    entry["recorded_at"] = parse_time(entry["recorded_at"])
    if index == 0 and entry["prev"] != EMPTY_ROOT:
        raise RefusedError("entry 0 follows nothing", EMPTY_ROOT.hex(), entry["prev"].hex())
    return entry


def check_name(name, field):
    if not isinstance(name, str) or not 1 <= len(name.encode("utf-8")) <= 512:
        raise RefusedError(f"{field} is not 1 to 512 bytes of text", "a name", shown(name, 60))
    if re.search(r"[\x00-\x1f\x7f-\x9f]", name):
        raise RefusedError(f"{field} has a control character", "a name", shown(name, 60))
    if unicodedata.normalize("NFC", name) != name:
        raise RefusedError(f"{field} is not in the form NFC", "a name", shown(name, 60))


def parse_proof(data):
    """(index, hashes, checkpoint bytes) of a c2sp.org/tlog-proof@v1 file."""
    head, gap, checkpoint = bytes(data).partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeError:
        raise RefusedError("a proof is ASCII text", "ASCII", "other bytes") from None
    if not gap or lines[0] != "c2sp.org/tlog-proof@v1" or len(lines) < 2:
        raise RefusedError("not a proof", "c2sp.org/tlog-proof@v1", shown(lines[0], 60))
    if not lines[1].startswith("index "):
        raise RefusedError("not a proof", "index <decimal>", shown(lines[1], 60))
    if len(lines) > 66:
        raise RefusedError("a proof has too many hashes", 64, len(lines) - 2)
    return parse_decimal(lines[1][6:]), [parse_hash(line) for line in lines[2:]], checkpoint


def check_commitment(commitment, salt, payload):
    found = hashlib.sha256(b"asof/payload/v1\n" + salt + payload).digest()
    if found != commitment:
        raise RefusedError("the payload is not the recorded one", commitment.hex(), found.hex())


# --- step 1: the container ------------------------------------------------------------------------

LOCAL = struct.Struct("<4s5H3I2H")
CENTRAL = struct.Struct("<4s6H3I5H2I")
END = struct.Struct("<4s4H2IH")
DOS_DATE = 0x0021

MEMBERS = (
    (re.compile(r"manifest\.json"), 1 << 24),
    (re.compile(r"manifest\.note"), 1 << 16),
    (re.compile(r"checkpoint"), 1 << 16),
    (re.compile(r"policy"), 1 << 16),
    (re.compile(r"schema\.json"), 1 << 24),
    (re.compile(r"report\.json"), 1 << 24),
    (re.compile(r"report\.(?:csv|pdf)"), 1 << 28),
    (re.compile(r"verify\.py"), 1 << 20),
    (re.compile(r"README\.txt"), 1 << 20),
    (re.compile(r"entries/(0|[1-9][0-9]{0,15})\.json"), 65535),
    (re.compile(r"payloads/(0|[1-9][0-9]{0,15})\.bin"), 1 << 20),
    (re.compile(r"payloads/(0|[1-9][0-9]{0,15})\.salt"), 16),
    (re.compile(r"proofs/(0|[1-9][0-9]{0,15})\.tlog-proof"), 1 << 17),
    (re.compile(r"tile/entries/(?:x[0-9]{3}/)*[0-9]{3}(?:\.p/[1-9][0-9]{0,2})?"), 1 << 24),
    (re.compile(r"timestamps/[a-z0-9][a-z0-9_-]{0,63}\.tsr"), 1 << 20),
    (re.compile(r"keys/[a-z0-9][a-z0-9_-]{0,63}\.vkey"), 1 << 12),
)


def member_index(path):
    """The entry that a member is about, or None."""
    match = re.fullmatch(r"(?:entries|payloads|proofs)/([0-9]{1,16})\.[a-z-]+", path)
    return int(match.group(1)) if match else None


def check_member_name(raw):
    """The name as text, and the most bytes that a member of this name may have."""
    for pattern, limit in MEMBERS:
        name = raw.decode("latin-1")
        if pattern.fullmatch(name):
            return name, limit
    raise RefusedError("a member that no bundle has", "a name of docs/spec/bundle.md", shown(raw))


def local_header(name, crc, size):
    return LOCAL.pack(b"PK\3\4", 20, 0, 0, 0, DOS_DATE, crc, size, size, len(name), 0) + name


def central_header(name, crc, size, offset):
    fixed = (b"PK\1\2", 20, 20, 0, 0, 0, DOS_DATE, crc, size, size, len(name), 0, 0, 0, 0, 0)
    return CENTRAL.pack(*fixed, offset) + name


def read_end(data):
    """(count, size, offset) of the central directory, which ends where the end record begins."""
    if len(data) > MAX_BUNDLE:
        raise UnreadableError(f"the file is larger than {MAX_BUNDLE} bytes")
    at = len(data) - END.size
    tail = data[at:] if at >= 0 else b""
    if data[:4] != b"PK\3\4" and tail[:4] != b"PK\5\6":
        raise UnreadableError("the file is not a bundle (no ZIP signature)")
    if tail[:4] != b"PK\5\6":
        raise RefusedError(
            "the file does not end with a ZIP end record", "504b0506", tail[:4].hex()
        )
    _, _, _, _, count, size, offset, _ = END.unpack(tail)
    if tail != END.pack(b"PK\5\6", 0, 0, count, count, size, offset, 0):
        raise RefusedError(
            "the ZIP end record is not as written", "one disk, no comment", tail.hex()
        )
    if offset + size != at:
        raise RefusedError("the ZIP directory is not where it must be", at - size, offset)
    return count, size, offset


def read_directory(data):
    """[(name, crc, size, start)] from a container in which every byte is accounted for."""
    count, _, directory = read_end(data)
    members, at, offset = [], directory, 0
    for _ in range(count):
        member, at, offset = read_header(data, at, offset, len(data) - END.size)
        members.append(member)
    if offset != directory or at != len(data) - END.size:
        raise RefusedError("bytes that belong to no member", directory, offset)
    return members


def read_header(data, at, offset, end):
    """One member of the directory: both headers must be exactly those that the format gives."""
    if at + CENTRAL.size > end:
        raise RefusedError("the ZIP directory is cut", "another member", "its end")
    fields = CENTRAL.unpack(data[at : at + CENTRAL.size])
    crc, size, length = fields[7], fields[9], fields[10]
    raw = data[at + CENTRAL.size : at + CENTRAL.size + length]
    name, limit = check_member_name(raw)
    if size > limit:
        raise UnreadableError(f"{name} has {size} bytes, at most {limit} are read")
    central, local = central_header(raw, crc, size, offset), local_header(raw, crc, size)
    if data[at : at + len(central)] != central:
        found = data[at : at + len(central)].hex()
        raise RefusedError(f"the directory entry of {name} is not as written", central.hex(), found)
    if data[offset : offset + len(local)] != local:
        found = data[offset : offset + len(local)].hex()
        raise RefusedError(f"the header of {name} is not as written", local.hex(), found)
    start = offset + len(local)
    return (name, crc, size, start), at + len(central), start + size


class Members:
    """The members of a sound container, by name; `read` copies one out of the file."""

    def __init__(self, data, places):
        self.data = data
        self.places = places

    def __contains__(self, path):
        return path in self.places

    def __iter__(self):
        return iter(self.places)

    def read(self, path):
        start, size = self.places[path]
        return bytes(self.data[start : start + size])

    def matching(self, folder, suffix):
        """{index: path} of the members `<folder>/<index><suffix>`, in the order of the indexes."""
        pairs = [(member_index(p), p) for p in self if p.startswith(folder + "/")]
        return dict(sorted(pair for pair in pairs if pair[1].endswith(suffix)))


def check_container(data, report):
    """Step 1. Every bit of the file lies in a checked header, or under a checksum."""
    try:
        directory = read_directory(data)
    except RefusedError as refused:
        report.refuse(CONTAINER, refused)
        return None
    places, folded = {}, set()
    for name, crc, size, start in directory:
        if name.casefold() in folded:
            report.find(
                CONTAINER, "two members of one name", member_index(name), name, "one", "two"
            )
        folded.add(name.casefold())
        places[name] = (start, size)
        found = zlib.crc32(data[start : start + size])
        if found != crc:
            message = "the content is not what was written"
            expected, seen = f"crc32 {crc:08x}", f"crc32 {found:08x}"
            report.find(CONTAINER, message, member_index(name), name, expected, seen)
    report.checked["members"] = len(directory)
    return Members(data, places)


# --- step 2: the manifest -------------------------------------------------------------------------

MANIFEST_FIELDS = ("basis", "consistency", "files", "generator", "ledger", "made_at")
MANIFEST_FIELDS += ("parameters", "payloads", "question", "v")
REQUIRED = ("manifest.json", "checkpoint", "verify.py", "README.txt")


def check_manifest(members, report):
    """Step 2. The manifest is canonical and names every member, with its size and SHA-256."""
    for path in REQUIRED:
        if path not in members:
            report.find(MANIFEST, "a bundle must have this member", None, path, "present", "absent")
    if report.findings:
        return None
    try:
        manifest = parse_manifest(members.read("manifest.json"))
    except RefusedError as refused:
        report.refuse(MANIFEST, refused, None, "manifest.json")
        return None
    listed = {item["path"]: item for item in manifest["files"]}
    for path in members:
        if path not in listed and path not in ("manifest.json", "manifest.note"):
            found = "a member that the manifest does not list"
            report.find(MANIFEST, found, member_index(path), path, "listed", "not listed")
    for path, item in listed.items():
        check_listed(members, path, item, report)
    report.checked["digests"] = len(listed)
    return manifest


def parse_manifest(data):
    manifest = parse_json(data)
    if not isinstance(manifest, dict) or tuple(sorted(manifest)) != MANIFEST_FIELDS:
        raise RefusedError("not a manifest", ", ".join(MANIFEST_FIELDS), shown(manifest))
    if canonical(manifest) + b"\n" != data:
        raise RefusedError("the manifest is not canonical", shown(jcs(manifest)), shown(data))
    if manifest["v"] != 1 or type(manifest["v"]) is not int:
        raise RefusedError("an unknown version of the bundle format", 1, shown(manifest["v"]))
    require(isinstance(manifest["files"], list), "files is not a list")
    for item in manifest["files"]:
        require(has_fields(item, path=str, sha256=str, size=int), "files lists no file")
        parse_hex(item["sha256"], "sha256")
    paths = [item["path"] for item in manifest["files"]]
    require(paths == sorted(set(paths)), "files are not in order, or one is named twice")
    basis, payloads = manifest["basis"], manifest["payloads"]
    require(has_fields(basis, recorded_at=str, root=str, tree_size=int), "basis is not a basis")
    require(has_fields(payloads, erased=list, withheld=list), "payloads does not say which")
    require(in_order(payloads["withheld"]), "withheld lists no entries, in order")
    pairs = [has_fields(item, evidence=int, index=int) for item in payloads["erased"]]
    require(all(pairs), "erased does not name its evidence")
    require(in_order([item["index"] for item in payloads["erased"]]), "erased is not in order")
    require(isinstance(manifest["consistency"], list), "consistency is not a proof")
    for text in manifest["consistency"]:
        require(isinstance(text, str), "consistency is not a proof")
        parse_hash(text)
    parse_hex(basis["root"], "root")
    parse_time(basis["recorded_at"])
    counts = [basis["tree_size"]] + [item["size"] for item in manifest["files"]]
    counts += [item["evidence"] for item in payloads["erased"]]
    require(min(counts) >= 0, "a count is below zero")
    require(isinstance(manifest["parameters"], dict), "parameters is not an object")
    texts = (manifest[name] for name in ("generator", "ledger", "made_at", "question"))
    require(all(isinstance(text, str) for text in texts), "a field is not text")
    parse_time(manifest["made_at"])
    return manifest


def has_fields(value, **types):
    """True when value is an object with exactly these fields, of exactly these types."""
    if not isinstance(value, dict) or set(value) != set(types):
        return False
    return all(type(value[name]) is kind for name, kind in types.items())


def in_order(indexes):
    """True for counts that rise, so that each is named once."""
    return all(type(i) is int and i >= 0 for i in indexes) and indexes == sorted(set(indexes))


def require(holds, message):
    if not holds:
        raise RefusedError(message, "the form of docs/spec/bundle.md", "another form")


def check_listed(members, path, item, report):
    index = member_index(path)
    if path not in members:
        report.find(MANIFEST, "a listed member is missing", index, path, "present", "absent")
        return
    data = members.read(path)
    found = hashlib.sha256(data).hexdigest()
    if (len(data), found) != (item["size"], item["sha256"]):
        expected = "{} bytes, sha256 {}".format(item["size"], item["sha256"])
        seen = f"{len(data)} bytes, sha256 {found}"
        report.find(MANIFEST, "the content is not the listed one", index, path, expected, seen)


# --- steps 3 to 6: key, signature, checkpoint, basis ----------------------------------------------

NOT_PINNED = (
    "that the key is the ledger's: you gave no --vkey, so the key inside the bundle was believed; "
    "whoever made the bundle could have made the key. Compare it with one you got another way"
)


def find_key(members, ledger, vkey, report):
    """Step 3. The key of the ledger: yours when you gave one, otherwise the one inside."""
    inside = []
    for path in sorted(path for path in members if path.startswith("keys/")):
        try:
            text = members.read(path).decode("utf-8")
            require(text.endswith("\n"), "a key file is one line")
            inside.append(Key(text[:-1]))
        except UnicodeError:
            report.find(KEYS, "a key file is not text", None, path, "UTF-8", "other bytes")
        except RefusedError as refused:
            report.refuse(KEYS, refused, None, path)
    own = [key for key in inside if key.name == ledger]
    report.checked["keys"] = len(inside)
    if len(inside) > len(own):
        report.notes.append("%s keys of other names were not used" % (len(inside) - len(own)))
    return choose_key(own, ledger, vkey, report)


def choose_key(own, ledger, vkey, report):
    if vkey is not None:
        key = Key(vkey)
        if key.name != ledger:
            message = "the bundle is of another ledger than your key"
            report.find(KEYS, message, None, "manifest.json", key.name, ledger)
        if any(other.text != key.text for other in own):
            report.notes.append("the key inside is not the key you gave; yours was used")
        return key
    if len(own) != 1:
        message = "there is not exactly one key of the ledger, and you gave none"
        report.find(KEYS, message, None, "keys/", "one key of " + ledger, len(own))
        return None
    report.notes.append("KEY NOT PINNED: " + own[0].text)
    report.not_checked.append(NOT_PINNED)
    return own[0]


def check_signature(members, key, report):
    """Step 4. The manifest is signed by the ledger's key."""
    if "manifest.note" not in members:
        report.lack("who made this bundle: its manifest is not signed")
        return
    try:
        text, _ = open_note(members.read("manifest.note"), key)
        digest = hashlib.sha256(members.read("manifest.json")).hexdigest()
        if text != f"asof/bundle/v1 manifest.json sha256:{digest}\n":
            raise RefusedError("the signed manifest is another one", digest, shown(text))
        report.checked["manifest_signature"] = 1
    except RefusedError as refused:
        report.refuse(SIGNATURE, refused, None, "manifest.note")


def check_checkpoint(members, key, report):
    """Step 5. The checkpoint is signed by the ledger's key: (size, root) of the tree."""
    try:
        size, root, other = open_checkpoint(members.read("checkpoint"), key)
    except RefusedError as refused:
        report.refuse(CHECKPOINT, refused, None, "checkpoint")
        return None
    report.checked["checkpoint"] = size
    if other:
        report.not_checked.append(f"{other} cosignatures on the checkpoint")
    for path in sorted(members):
        if path == "policy" or path.startswith("timestamps/"):
            report.lack(f"{path}: this verifier does not evaluate it")
    return size, root


def check_basis(manifest, tree, report):
    """Step 6. The tree that the answer stands on is the signed tree, or an earlier part of it."""
    basis = manifest["basis"]
    try:
        proof = [parse_hash(text) for text in manifest["consistency"]]
        root = parse_hex(basis["root"], "root")
        parse_time(basis["recorded_at"])
        check_consistency(basis["tree_size"], tree[0], proof, root, tree[1])
    except RefusedError as refused:
        report.refuse(BASIS, refused, None, "manifest.json")
    report.checked["basis"] = basis["tree_size"]


# --- steps 7 to 10: entries, proofs, links, payloads ----------------------------------------------


def check_entries(members, manifest, report):
    """Step 7. Each entry is canonical, of this ledger, in place: {index: (fields, leaf hash)}."""
    entries = {}
    for index, path in members.matching("entries", ".json").items():
        data = members.read(path)
        try:
            entries[index] = (parse_entry(data, index, manifest["ledger"]), leaf_hash(data))
        except RefusedError as refused:
            report.refuse(ENTRIES, refused, index, path)
    last = entries.get(manifest["basis"]["tree_size"] - 1)
    if last is None:
        report.find(
            ENTRIES, "the last entry of the basis is missing", None, None, "present", "absent"
        )
    elif last[0]["recorded_at"] != parse_time(manifest["basis"]["recorded_at"]):
        message = "the basis has another time than its last entry"
        report.find(
            ENTRIES, message, last[0]["index"], None, last[0]["recorded_at"], "another time"
        )
    report.entries = len(entries)
    report.checked["entries"] = len(entries)
    return entries


def check_proofs(members, entries, tree, report):
    """Step 8. Each entry has a proof that it is in the tree of the checkpoint."""
    proofs, checkpoint = members.matching("proofs", ".tlog-proof"), members.read("checkpoint")
    for index, path in proofs.items():
        try:
            stated, hashes, signed = parse_proof(members.read(path))
            require(stated == index, "the proof is of another entry")
            require(signed == checkpoint, "the proof is for another checkpoint")
            if index in entries:
                check_inclusion(index, tree[0], entries[index][1], hashes, tree[1])
        except RefusedError as refused:
            report.refuse(PROOFS, refused, index, path)
    have = members.matching("entries", ".json")
    for index in sorted(set(have) ^ set(proofs)):
        message = "an entry and its proof come together"
        report.find(PROOFS, message, index, None, "both", "one of them")
    report.checked["proofs"] = len(proofs)


def check_links(entries, report):
    """Step 9. Neighbours are linked, time does not run backwards, stream versions count up."""
    links, before, streams = 0, None, {}
    for index, (entry, _) in entries.items():
        if before is not None and entries[before][0]["recorded_at"] > entry["recorded_at"]:
            earlier = entries[before][0]["recorded_at"]
            report.find(
                LINKS, "recorded before its predecessor", index, None, earlier, entry["recorded_at"]
            )
        if index - 1 in entries:
            links += 1
            if entry["prev"] != entries[index - 1][1]:
                expected, found = entries[index - 1][1].hex(), entry["prev"].hex()
                report.find(LINKS, "not linked to the entry before", index, None, expected, found)
        last = streams.get(entry["stream"], 0)
        if entry["version"] <= last:
            report.find(
                LINKS, "a stream version does not count up", index, None, last + 1, entry["version"]
            )
        streams[entry["stream"]] = max(last, entry["version"])
        before = index
    report.checked["links"] = links


def check_payloads(members, manifest, entries, report):
    """Step 10. Each payload is the one committed to, or is stated to be withheld, or was erased."""
    bins, salts = members.matching("payloads", ".bin"), members.matching("payloads", ".salt")
    have, payloads = members.matching("entries", ".json"), {}
    withheld = set(manifest["payloads"]["withheld"])
    erased = {item["index"]: item["evidence"] for item in manifest["payloads"]["erased"]}
    for index in sorted((set(bins) | set(salts) | withheld | set(erased)) - set(have)):
        report.find(PAYLOADS, "a payload without its entry", index, None, "an entry", "none")
    for index in have:
        ways = [index in bins and index in salts, index in withheld, index in erased]
        if (index in bins) != (index in salts) or sum(ways) != 1:
            message = "a payload is present with its salt, or stated as withheld, or as erased"
            report.find(PAYLOADS, message, index, None, "one of the three", f"{sum(ways)}")
        elif ways[0] and index in entries:
            salt, payload = members.read(salts[index]), members.read(bins[index])
            try:
                require(len(salt) == 16, "a salt has 16 bytes")
                check_commitment(entries[index][0]["commitment"], salt, payload)
                payloads[index] = payload
            except RefusedError as refused:
                report.refuse(PAYLOADS, refused, index, bins[index])
    for index, evidence in erased.items():
        check_evidence(index, evidence, entries, payloads, report)
    report.checked["payloads"] = len(payloads)
    if withheld:
        report.not_checked.append(f"the {len(withheld)} payloads that were withheld")
    return payloads


def check_evidence(index, evidence, entries, payloads, report):
    """An erased payload is lawful only when an entry of the ledger lists it."""
    entry = entries.get(evidence, ({},))[0]
    listed = ()
    if entry.get("type") in ERASURE_TYPES and evidence in payloads:
        listed = erased_indexes(payloads[evidence])
    if index not in listed:
        message = "payload missing without erasure evidence"
        report.find(PAYLOADS, message, index, None, "an erasure entry that lists it", evidence)


def erased_indexes(payload):
    """The entries that the payload of an erasure entry lists; nothing when it cannot be read."""
    try:
        data = parse_json(payload)
    except RefusedError:
        return ()
    indexes = data.get("indexes") if isinstance(data, dict) else None
    return [i for i in indexes if type(i) is int] if isinstance(indexes, list) else ()


# --- step 11: completeness ------------------------------------------------------------------------


def tile_paths(size):
    """The paths of all entry bundles of a tree: the full ones, then the partial one."""
    paths = ["tile/entries/" + tile_number(n) for n in range(size // 256)]
    if size % 256:
        paths.append(f"tile/entries/{tile_number(size // 256)}.p/{size % 256}")
    return paths


def tile_number(n):
    parts = ["%03d" % (n % 1000)]
    while n >= 1000:
        n //= 1000
        parts.insert(0, "x%03d" % (n % 1000))
    return "/".join(parts)


def split_tile(data):
    """The entries of an entry bundle: each has its length before it, in two bytes."""
    entries, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        entries.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    if at != len(data) or not 0 < len(entries) <= 256:
        raise RefusedError("an entry bundle is cut", f"{at} bytes", f"{len(data)} bytes")
    return entries


def check_completeness(members, manifest, tree, report):
    """Step 11. If all entries of the tree are inside, their root is the signed one.

    Returns every entry's fields, in order, or None when they are not all here.
    """
    tiles = sorted(path for path in members if path.startswith("tile/"))
    if not tiles:
        return None
    if tiles != sorted(tile_paths(tree[0])):
        message = "the entry bundles are not those of the tree"
        report.find(COMPLETENESS, message, None, None, len(tile_paths(tree[0])), len(tiles))
        return None
    every, grown, prev = [], Tree(), EMPTY_ROOT
    for path in tile_paths(tree[0]):
        try:
            pieces = split_tile(members.read(path))
        except RefusedError as refused:
            report.refuse(COMPLETENESS, refused, None, path)
            return None
        try:
            for data in pieces:
                entry = parse_entry(data, len(every), manifest["ledger"])
                if entry["prev"] != prev:
                    raise RefusedError(
                        "not linked to the entry before", prev.hex(), entry["prev"].hex()
                    )
                prev = leaf_hash(data)
                grown.append(prev)
                every.append(entry)
        except RefusedError as refused:
            report.refuse(COMPLETENESS, refused, len(every), path)
            return None
    if len(every) != tree[0] or grown.root() != tree[1]:
        expected, found = tree[1].hex(), grown.root().hex()
        report.find(
            COMPLETENESS, "all entries do not give the signed root", None, None, expected, found
        )
        return None
    check_streams(every, report)
    report.checked["all_entries"] = len(every)
    return every


def check_streams(every, report):
    versions = {}
    for entry in every:
        version = versions.get(entry["stream"], 0) + 1
        if entry["version"] != version:
            message = "a stream version is not the next one"
            report.find(COMPLETENESS, message, entry["index"], None, version, entry["version"])
        versions[entry["stream"]] = entry["version"]


# --- step 12: the answer --------------------------------------------------------------------------


def check_answer(members, manifest, entries, payloads, every, report):
    """Step 12. The state of a pipeline is recomputed from the payloads, never taken on trust."""
    if manifest["question"] != "state":
        if "report.json" in members:
            report.not_checked.append("what report.json says: only a state is recomputed")
        return
    if "report.json" not in members:
        report.find(ANSWER, "the state is missing", None, "report.json", "present", "absent")
        return
    try:
        answer = parse_json(members.read("report.json"))
        require(isinstance(answer, dict), "the state is not an object")
        question = Question(answer, manifest)
    except RefusedError as refused:
        report.refuse(ANSWER, refused, None, "report.json")
        return
    check_touching(question, entries, every, report)
    try:
        content = question.state(entries, payloads)
    except LackingError as lacking:
        report.lack(str(lacking))
        return
    check_records(question, content, entries, payloads, every, report)
    compare_state(answer, content, report)
    report.checked["state_digest"] = 1
    report.not_checked.append(
        "in report.json: runs, open incidents and approvals, what is missing, changes before and "
        "after, places and sources; recomputed were bindings, traffic and state_digest"
    )


class LackingError(Exception):
    """The bundle does not carry what a recomputation needs."""


class Question:
    """Which pipeline and stage, in effect when, known when; bound to the signed parameters."""

    def __init__(self, answer, manifest):
        asked = manifest["parameters"]
        for name in ("pipeline", "stage", "at", "known_at"):
            if name not in asked or name not in answer or asked[name] != answer[name]:
                found = shown(answer.get(name))
                raise RefusedError(f"the answer is to another question ({name})", "as asked", found)
        if answer.get("basis") != manifest["basis"]:
            raise RefusedError("the answer stands on another basis", manifest["basis"], "another")
        for name in ("pipeline", "stage", "at"):
            require(isinstance(asked[name], str), f"{name} is not text")
        self.pipeline, self.stage = asked["pipeline"], asked["stage"]
        self.stream = f"pipeline/{self.pipeline}@{self.stage}"
        self.size = manifest["basis"]["tree_size"]
        self.at = parse_time(asked["at"])
        self.known_index, self.known_time = known_until(asked["known_at"])

    def knows(self, entry):
        """True when the entry lies in the basis and was recorded by the time of the question."""
        if entry["index"] >= self.size:
            return False
        if self.known_index is not None and entry["index"] > self.known_index:
            return False
        return self.known_time is None or entry["recorded_at"] <= self.known_time

    def state(self, entries, payloads):
        """The content of the state, whose digest is the state_digest."""
        slots, live = {}, (None, {})
        for index, (entry, _) in entries.items():
            family = entry["type"].rpartition("/")[0]
            if entry["stream"] != self.stream or not self.knows(entry):
                continue
            if family not in ("binding.changed", "binding.removed", "traffic.changed"):
                continue
            data = read_change(index, entry, payloads)
            rank = (effective_at(data, entry), index)
            if (data.get("pipeline"), data.get("stage")) != (self.pipeline, self.stage):
                continue
            if rank[0] > self.at:
                continue
            if family != "traffic.changed":
                slot = lacking_unless(data.get("slot"), str, index)
                held = None
                if family == "binding.changed":
                    held = lacking_unless(data.get("asset_version"), str, index)
                if slot not in slots or rank > slots[slot][0]:
                    slots[slot] = (rank, held)
            elif data.get("mode") != "shadow" and (live[0] is None or rank > live[0]):
                live = (rank, lacking_unless(data.get("shares"), dict, index))
        bindings = {slot: held for slot, (_, held) in slots.items() if held is not None}
        return self.content(bindings, live[1], entries, payloads)

    def content(self, bindings, traffic, entries, payloads):
        content = {"pipeline": self.pipeline, "stage": self.stage, "traffic": traffic}
        content["bindings"] = {}
        for slot, held in bindings.items():
            _, digest = first_record(self, held, entries, payloads)
            content["bindings"][slot] = {"asset_version": held, "digest": digest}
        return content


def known_until(text):
    """(entry index, None) of `index:N`, (None, instant) of a time, (None, None) of null."""
    if text is None:
        return None, None
    require(isinstance(text, str), "known_at is text or null")
    if text.startswith("index:"):
        return parse_decimal(text[6:]), None
    return None, parse_time(text)


def read_change(index, entry, payloads):
    """The payload of an entry that changes the pipeline; without it there is no state."""
    if index not in payloads or not entry["type"].endswith("/1"):
        raise LackingError(f"the state: the payload of entry {index} is not here, or newer")
    try:
        data = parse_json(payloads[index])
    except RefusedError:
        data = None
    return lacking_unless(data, dict, index)


def lacking_unless(value, kind, index):
    if not isinstance(value, kind):
        raise LackingError(f"the state: the payload of entry {index} cannot be understood")
    return value


RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)


def effective_at(data, entry):
    """When a change took effect: what it says, or when it was recorded if that cannot be read."""
    text = data.get("effective_at")
    match = RFC3339.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return entry["recorded_at"]
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    fraction, sign, off_hours, off_minutes = match.groups()[6:]
    leap = second == 60
    if int(off_hours or 0) > 23 or int(off_minutes or 0) > 59:
        return entry["recorded_at"]
    try:
        moment = datetime.datetime(year, month, day, hour, minute, second - leap, tzinfo=UTC)
        offset = datetime.timedelta(hours=int(off_hours or 0), minutes=int(off_minutes or 0))
        moment = moment + offset if sign == "-" else moment - offset
        moment += datetime.timedelta(seconds=int(leap))
    except (ValueError, OverflowError):
        return entry["recorded_at"]
    if leap and moment.time() != datetime.time(0, 0, 0):
        return entry["recorded_at"]
    span = moment - datetime.datetime(1970, 1, 1, tzinfo=UTC)
    micros = 0 if leap else int((fraction or "0")[:6].ljust(6, "0"))
    return (span.days * 86400 + span.seconds) * 1000000 + micros


def recorded_asset(entry, payload):
    """(asset version, digest) that an entry records, or None."""
    if entry["type"] != "asset.version.recorded/1" or payload is None:
        return None
    try:
        data = parse_json(payload)
    except RefusedError:
        return None
    if not isinstance(data, dict):
        return None
    name = "{}/{}@{}".format(data.get("kind"), data.get("name"), data.get("version"))
    return name, data.get("digest")


def first_record(question, version, entries, payloads):
    """(stream version, digest) of the first known entry that records this asset version."""
    for index, (entry, _) in entries.items():
        if question.knows(entry):
            found = recorded_asset(entry, payloads.get(index))
            if found is not None and found[0] == version:
                return entry["version"], found[1]
    return None, None


def check_records(question, content, entries, payloads, every, report):
    """The digest is that of the first record: no entry of the asset before it may be missing."""
    for held in content["bindings"].values():
        version = held["asset_version"]
        stream = "asset/" + version.rpartition("@")[0]
        readable = {
            entry["version"]
            for index, (entry, _) in entries.items()
            if entry["stream"] == stream and index in payloads
        }
        first, _ = first_record(question, version, entries, payloads)
        if first is not None:
            wanted = set(range(1, first))
        else:
            known = [e for e in every or () if e["stream"] == stream and question.knows(e)]
            wanted = {entry["version"] for entry in known}
        if not wanted <= readable or (first is None and every is None):
            report.lack(f"that no other entry was the first to record {shown(version)}")


def check_touching(question, entries, every, report):
    """Nothing else touched this pipeline: provable only when every entry of the tree is here."""
    if every is None:
        here = [e["version"] for e, _ in entries.values() if e["stream"] == question.stream]
        gaps = sorted(set(range(1, max(here, default=0) + 1)) - set(here))
        if gaps:
            message = "an entry of the pipeline's stream is missing"
            report.find(ANSWER, message, None, None, f"stream version {gaps[0]}", "absent")
        report.lack(
            f"that no later entry touched {shown(question.stream)}: "
            "the bundle does not carry all entries"
        )
        return
    for entry in every:
        if entry["stream"] == question.stream and entry["index"] < question.size:
            if entry["index"] not in entries:
                message = "an entry that touched the pipeline was left out"
                report.find(ANSWER, message, entry["index"], None, "present", "absent")


def compare_state(answer, content, report):
    """The answer's bindings, traffic and digest against the recomputed ones."""
    bindings = answer.get("bindings")
    stated = bindings if isinstance(bindings, dict) else {}
    for slot in sorted(set(stated) | set(content["bindings"])):
        value = stated.get(slot)
        value = value if isinstance(value, dict) else {}
        found = {name: value.get(name) for name in ("asset_version", "digest")}
        expected = content["bindings"].get(slot, {"asset_version": None, "digest": None})
        if found != expected:
            message = f"the binding of {shown(slot)} is not the recomputed one"
            report.find(ANSWER, message, None, "report.json", shown(expected), shown(found))
    if answer.get("traffic") != content["traffic"]:
        found = shown(answer.get("traffic"))
        message = "the traffic is not the recomputed one"
        report.find(ANSWER, message, None, "report.json", shown(content["traffic"]), found)
    digest = "sha256:" + hashlib.sha256(canonical(content)).hexdigest()
    if answer.get("state_digest") != digest:
        found = shown(answer.get("state_digest"))
        message = "the state digest is not the recomputed one"
        report.find(ANSWER, message, None, "report.json", digest, found)


# --- the whole ------------------------------------------------------------------------------------

ALWAYS_UNCHECKED = (
    "that what was recorded is true, and that everything that happened was recorded",
    "entries recorded after the checkpoint",
    "that the ledger showed everybody else the same tree: compare checkpoints, or ask a witness",
)


def check(data, vkey=None):
    """The Report on the bytes of a bundle. Never raises, whatever they are; `vkey` is sound."""
    report = Report()
    try:
        done = run_steps(data, vkey, report)
        if done < len(STEPS):
            report.not_checked.append("because of that: steps " + ", ".join(STEPS[done:]))
        report.not_checked.extend(ALWAYS_UNCHECKED)
    except UnreadableError as error:
        report.error = str(error)
    return report


def run_steps(data, vkey, report):
    """Do the steps in order; return how many were done. 1 to 6 stop at the first finding."""
    members = check_container(data, report)
    if report.findings:
        return 1
    manifest = check_manifest(members, report)
    if report.findings:
        return 2
    key = find_key(members, manifest["ledger"], vkey, report)
    if report.findings:
        return 3
    check_signature(members, key, report)
    if report.findings:
        return 4
    tree = check_checkpoint(members, key, report)
    if report.findings:
        return 5
    check_basis(manifest, tree, report)
    if report.findings:
        return 6
    entries = check_entries(members, manifest, report)
    check_proofs(members, entries, tree, report)
    check_links(entries, report)
    payloads = check_payloads(members, manifest, entries, report)
    every = check_completeness(members, manifest, tree, report)
    check_answer(members, manifest, entries, payloads, every, report)
    report.not_checked.append("the verify.py inside: a checker that comes with the goods")
    return len(STEPS)


def check_entry_proof(proof, entry, vkey, payload=None, salt=None):
    """The Report on one .tlog-proof and the bytes of its entry."""
    report = Report()
    report.entries = 1
    key = Key(vkey)
    try:
        index, hashes, checkpoint = parse_proof(proof)
        size, root, other = open_checkpoint(checkpoint, key)
        fields = parse_entry(entry, index, key.name)
        check_inclusion(index, size, leaf_hash(entry), hashes, root)
        report.checked.update({"checkpoint": size, "entries": 1, "proofs": 1})
        if other:
            report.not_checked.append(f"{other} cosignatures on the checkpoint")
        if payload is None or salt is None:
            report.not_checked.append("the payload: give --payload and --salt to check it")
        else:
            require(len(salt) == 16, "a salt has 16 bytes")
            check_commitment(fields["commitment"], salt, payload)
            report.checked["payloads"] = 1
    except RefusedError as refused:
        report.refuse(PROOFS, refused)
    report.not_checked.extend(ALWAYS_UNCHECKED)
    return report


# --- command line ---------------------------------------------------------------------------------


def as_text(report):
    """The report for a reader: verdict first, then why, then what was not checked."""
    counts = ", ".join(f"{name} {count}" for name, count in report.checked.items())
    lines = [report.result, "checked: " + (counts or "nothing")]
    if report.error is not None:
        lines.append("error: " + shown(report.error))
    for finding in report.findings:
        where = [] if finding["index"] is None else ["entry {}".format(finding["index"])]
        where += [shown(finding["place"])] if finding["place"] else []
        place = " ({})".format(", ".join(where)) if where else ""
        lines.append(
            "FINDING step {}{}: {}".format(finding["step"], place, shown(finding["message"]))
        )
        lines.append("    expected " + shown(finding["expected"], 2000))
        lines.append("    found    " + shown(finding["found"], 2000))
    lines += ["note: " + shown(note, 2000) for note in report.notes]
    lines += ["NOT checked: " + shown(text, 2000) for text in report.not_checked]
    return "\n".join(lines)


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        prog="verify.py", description="Check an asof bundle, or one proof, offline."
    )
    parser.add_argument("file", help="bundle.zip, or a .tlog-proof (then --entry is needed)")
    parser.add_argument("--vkey", help="the ledger's verifier key, as you got it another way")
    parser.add_argument("-o", dest="output", choices=("text", "json"), default="text")
    parser.add_argument("--entry", help="the entry that a .tlog-proof is about")
    parser.add_argument("--payload", help="its payload, with --salt")
    parser.add_argument("--salt", help="the 16 bytes that were hashed with the payload")
    options = parser.parse_args(arguments)
    if options.vkey is not None:
        try:
            Key(options.vkey)
        except RefusedError as refused:
            parser.error(f"--vkey: {refused.message} (expected {shown(refused.expected)})")
    if options.entry is not None and options.vkey is None:
        parser.error("a single proof needs --vkey: there is no key in it")
    return options


def examine(options):
    """The Report that the arguments ask for."""
    if options.entry is not None:
        names = (options.file, options.entry, options.payload, options.salt)
        proof, entry, payload, salt = (None if n is None else read_small(n) for n in names)
        return check_entry_proof(proof, entry, options.vkey, payload, salt)
    with open(options.file, "rb") as file:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return check(data, options.vkey)
        except ValueError:
            return check(b"", options.vkey)


def read_small(path):
    with open(path, "rb") as file:
        return file.read(1 << 21)


def main(arguments=None):
    """Print the report; return the exit code of the verdict."""
    options = parse_arguments(arguments)
    try:
        report = examine(options)
    except OSError as error:
        report = Report()
        report.error = f"cannot read {error.filename}: {error.strerror}"
    except Exception as error:  # the last resort: a defect here must never look like a verdict
        report = Report()
        report.error = f"the verifier failed: {type(error).__name__}: {error}"
    sys.stdout.reconfigure(errors="backslashreplace")
    as_json = options.output == "json"
    sys.stdout.write(
        (json.dumps(report.as_json(), indent=2) if as_json else as_text(report)) + "\n"
    )
    return EXIT_CODES[report.result]


if __name__ == "__main__":
    sys.exit(main())
