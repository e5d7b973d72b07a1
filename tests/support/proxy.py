"""A network that fails on purpose: a TCP proxy on loopback between a client and a server.

::

    with Proxy(server_port) as proxy:
        url = f"postgresql://asof_app@127.0.0.1:{proxy.port}/audit"
        proxy.cut(TO_CLIENT, after=17)      # 17 more bytes reach the client, then it is cut off
        proxy.hold()                        # nothing is forwarded, nothing is closed
        proxy.release()

Faults are set while connections are open, and count from then on, over all of them.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Literal, Self

__all__ = ["TO_CLIENT", "TO_SERVER", "Direction", "Proxy"]

Direction = Literal["to client", "to server"]
TO_CLIENT: Final[Direction] = "to client"
TO_SERVER: Final[Direction] = "to server"
LOOPBACK: Final = "127.0.0.1"
# Lingering for no time: `close` sends RST instead of FIN.
RESET: Final = struct.pack("ii", 1, 0)


class Link:
    """A connection of the client and the one to the server that belongs to it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._ends = (client, server)
        self._lock = threading.Lock()
        self.is_open = True

    def end(self, *, reset: bool) -> None:
        """Close both sides; who comes first says how. Shut down before: that wakes a thread which
        reads from the socket, as `close` does not, and RST is sent when nobody reads any more."""
        with self._lock:
            if not self.is_open:
                return
            self.is_open = False
        for end in self._ends:
            try:
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                end.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
            except OSError:
                pass  # it is not connected any more
        for end in self._ends:
            end.close()


class Proxy:
    """Forwards every connection to the server's port. Closing it cuts all of them."""

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self.delay = 0.0
        self.refuses = False
        self.forwarded: dict[Direction, int] = {TO_CLIENT: 0, TO_SERVER: 0}
        self.cuts = 0
        self._left: dict[Direction, int] = {}
        self._reset = False
        self._closing = False
        self._open = threading.Event()
        self._open.set()
        self._lock = threading.Lock()
        self._links: list[Link] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((LOOPBACK, 0))
        self._listener.settimeout(0.1)
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    # ------------------------------------------------------------------------------- faults

    def cut(self, direction: Direction, *, after: int, reset: bool = False) -> None:
        """Let `after` more bytes through and end the connection, with RST where `reset`, instead of
        forwarding the next one. `cuts` then counts one more, and the fault is over."""
        with self._lock:
            self._left[direction] = after
            self._reset = reset

    def mend(self) -> None:
        """No fault from now on. Connections that were cut stay so."""
        with self._lock:
            self._left.clear()
        self.delay, self.refuses = 0.0, False
        self.release()

    def hold(self) -> None:
        """Forward nothing, close nothing: what a network does whose cable was pulled."""
        self._open.clear()

    def release(self) -> None:
        """Forward again, what was held first."""
        self._open.set()

    def drop(self, *, reset: bool = False) -> None:
        """End every connection now."""
        with self._lock:
            links, self._links = self._links, []
        for link in links:
            link.end(reset=reset)

    # --------------------------------------------------------------------------- forwarding

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            server = self._server()
            if server is None:
                client.close()
            else:
                self._join(client, server)

    def _server(self) -> socket.socket | None:
        if self.refuses:
            return None
        try:
            return socket.create_connection((LOOPBACK, self.server_port))
        except OSError:
            return None

    def _join(self, client: socket.socket, server: socket.socket) -> None:
        link = Link(client, server)
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._links = [*filter(lambda other: other.is_open, self._links), link]
        self._start(self._forward, link, client, server, TO_SERVER)
        self._start(self._forward, link, server, client, TO_CLIENT)

    def _start(self, target: Callable[..., None], *values: Any) -> None:
        thread = threading.Thread(target=target, args=values, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _forward(
        self, link: Link, source: socket.socket, sink: socket.socket, direction: Direction
    ) -> None:
        """Until either end closes, or a cut is due."""
        cut = reset = False
        try:
            while not cut and (data := source.recv(65_536)):
                time.sleep(self.delay)
                self._open.wait()
                allowed, cut, reset = self._allow(direction, len(data))
                sink.sendall(data[:allowed])
        except OSError:
            pass  # the other direction has ended the connection
        link.end(reset=reset)

    def _allow(self, direction: Direction, size: int) -> tuple[int, bool, bool]:
        """How many bytes may pass, whether the connection ends behind them, and whether by RST."""
        with self._lock:
            left = self._left.get(direction, size)
            allowed, cut = min(size, left), size > left
            if cut:
                del self._left[direction]
                self.cuts += 1
            elif direction in self._left:
                self._left[direction] -= allowed
            self.forwarded[direction] += allowed
            return allowed, cut, cut and self._reset

    # ---------------------------------------------------------------------------------- end

    def close(self) -> None:
        """Cut everything and wait for the threads."""
        self._closing = True
        self.release()
        while self._threads:
            self.drop()
            self._threads[0].join(0.05)
            if not self._threads[0].is_alive():
                self._threads.pop(0)
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
