"""Where webhooks may go: hosts that the configuration names, at addresses that are looked at first.

A URL that somebody types is a way to make the server ask its own network. So a host must be
allowed, and what its name resolves to must be public unless the host is allowed as private; the
connection is then made to the very address that was looked at, as a name may resolve to another
one a moment later.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from ledger.errors import RefusedError

__all__ = ["Address", "Allowed", "check_url", "resolved"]

MOST_URL: Final = 2_000


@dataclass(frozen=True, slots=True)
class Allowed:
    """Hosts that may be called; those in `private` may lie in a private network, over http too."""

    public: Collection[str] = ()
    private: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Address:
    """A URL with the address that its host has."""

    url: str
    host: str
    port: int
    ip: str
    tls: bool

    @property
    def authority(self) -> str:
        """The `Host` of the request: the name that was asked for, with a port of its own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def base(self) -> str:
        """Scheme, address and port, to which the connection is made."""
        ip = f"[{self.ip}]" if ":" in self.ip else self.ip
        return f"{'https' if self.tls else 'http'}://{ip}:{self.port}"


def check_url(url: str, allowed: Allowed) -> tuple[str, int, bool]:
    """Host, port and whether TLS. Raises RefusedError for what may not be called."""
    if len(url) > MOST_URL or not (url.isascii() and url.isprintable()):
        raise RefusedError(
            f"a webhook's URL has at most {MOST_URL} characters, all of them visible ASCII: "
            "write others as %XX"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise RefusedError("this is no URL") from None
    host = (parts.hostname or "").lower()
    if parts.username or parts.password or parts.fragment or any(c.isspace() for c in url):
        raise RefusedError("a webhook's URL has no user, password, fragment or space")
    if host not in allowed.public and host not in allowed.private:
        raise RefusedError(
            f"{host or 'this'} is not among the hosts that webhooks may go to: [outgoing] hosts"
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and host in allowed.private):
        raise RefusedError("a webhook goes over https")
    tls = parts.scheme == "https"
    return host, port or (443 if tls else 80), tls


def resolved(url: str, allowed: Allowed) -> Address:
    """The address to call. Raises RefusedError for one that may not be called, OSError where the
    name does not resolve.
    """
    host, port, tls = check_url(url, allowed)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, place in found:
        ip = str(place[0])
        if host in allowed.private or _is_public(ip):
            return Address(url, host, port, ip, tls)
    raise RefusedError(f"{host} lies in a private network, and is not allowed as such")


def _is_public(text: str) -> bool:
    ip = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_global and not (mapped or ip).is_multicast
