"""A database's URL as it may be printed, or for another login.

::

    without_password("postgresql://app:secret@db/audit?sslmode=require")
    # postgresql://app@db/audit?sslmode=require

What is left is still a URL to connect with, where the password comes from PGPASSWORD or ~/.pgpass.
Text that is no database's URL is left as it is.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

__all__ = ["as_user", "without_password"]

# As libpq reads it: what stands before an @, and before any slash, is user and password.
_URL = re.compile(r"(postgres(?:ql)?://)(?:([^/:@]*)(?::[^/]*)?@)?(.*)", re.DOTALL)
_SECRET = frozenset({"password", "sslpassword"})


def without_password(url: str) -> str:
    """The URL without the passwords in it, before the host or among the parameters."""
    return _rewritten(url, None)


def as_user(url: str, user: str) -> str:
    """The URL for another login, without a password."""
    return _rewritten(url, quote(user, safe=""))


def _rewritten(url: str, user: str | None) -> str:
    found = _URL.fullmatch(url)
    if found is None:
        return url
    scheme, named, rest = found.groups()
    login = named if user is None else user
    return f"{scheme}{login}@{_bare(rest)}" if login else f"{scheme}{_bare(rest)}"


def _bare(rest: str) -> str:
    """Host and path with those parameters that are no secret."""
    place, _, parameters = rest.partition("?")
    kept = [word for word in parameters.split("&") if unquote(word.split("=")[0]) not in _SECRET]
    return f"{place}?{'&'.join(kept)}" if any(kept) else place
