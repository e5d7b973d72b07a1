"""The network that fails on purpose, tested with a server that sends back what it is sent."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from scripts.clusters.processes import wait_until
from tests.support.proxy import TO_CLIENT, TO_SERVER, Direction, Proxy


@pytest.fixture
def received() -> list[bytes]:
    """What reached the server, in order."""
    return []


@pytest.fixture
def echo_port(received: list[bytes]) -> Iterator[int]:
    ending = threading.Event()

    def serve() -> None:
        while True:
            connection, _ = listener.accept()
            with connection:
                if ending.is_set():
                    return
                answer(connection)

    def answer(connection: socket.socket) -> None:
        try:
            while data := connection.recv(4096):
                received.append(data)
                connection.sendall(data)
        except OSError:
            pass  # the proxy has cut the connection

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        port: int = listener.getsockname()[1]
        yield port
        ending.set()
        socket.create_connection(("127.0.0.1", port)).close()
        thread.join()


@pytest.fixture
def proxy(echo_port: int) -> Iterator[Proxy]:
    with Proxy(echo_port) as proxy:
        yield proxy


def connected(proxy: Proxy) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", proxy.port))
    client.settimeout(10)
    return client


def all_of(client: socket.socket) -> bytes:
    """What comes until the end of the connection."""
    data = b""
    while piece := client.recv(4096):
        data += piece
    return data


def test_without_a_fault_all_bytes_pass(proxy: Proxy) -> None:
    """The negative control of all that follows: nothing here is cut, late or lost."""
    message = bytes(range(256)) * 1000
    with closing(connected(proxy)) as client:
        sender = threading.Thread(target=client.sendall, args=(message,))
        sender.start()
        found = b""
        while len(found) < len(message):
            found += client.recv(65_536)
        sender.join()
    assert found == message and proxy.cuts == 0
    assert proxy.forwarded == {TO_CLIENT: len(message), TO_SERVER: len(message)}


@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_cut_lets_exactly_so_many_bytes_reach_the_client(
    proxy: Proxy, received: list[bytes], after: int
) -> None:
    with closing(connected(proxy)) as client:
        proxy.cut(TO_CLIENT, after=after)
        client.sendall(b"hello")
        assert all_of(client) == b"hello"[:after]
    assert b"".join(received) == b"hello" and proxy.cuts == 1


@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_cut_lets_exactly_so_many_bytes_reach_the_server(
    proxy: Proxy, received: list[bytes], after: int
) -> None:
    with closing(connected(proxy)) as client:
        proxy.cut(TO_SERVER, after=after)
        client.sendall(b"hello")
        all_of(client)
    wait_until(lambda: len(b"".join(received)) >= after, "the server to read")
    assert b"".join(received) == b"hello"[:after] and proxy.cuts == 1


@pytest.mark.parametrize("direction", [TO_CLIENT, TO_SERVER])
def test_a_cut_that_is_not_reached_does_nothing_and_one_that_was_is_over(
    proxy: Proxy, direction: Direction
) -> None:
    with closing(connected(proxy)) as client:
        proxy.cut(direction, after=5)
        client.sendall(b"hello")
        assert client.recv(5, socket.MSG_WAITALL) == b"hello" and proxy.cuts == 0
        client.sendall(b"!?")
        assert all_of(client) == b"" and proxy.cuts == 1
    with closing(connected(proxy)) as client:
        client.sendall(b"again")
        assert client.recv(5, socket.MSG_WAITALL) == b"again"


def test_a_reset_is_not_a_polite_end(proxy: Proxy) -> None:
    with closing(connected(proxy)) as client:
        proxy.cut(TO_CLIENT, after=0, reset=True)
        client.sendall(b"hello")
        with pytest.raises(ConnectionResetError):
            all_of(client)


@pytest.mark.parametrize("reset", [False, True])
def test_all_connections_are_dropped(proxy: Proxy, reset: bool) -> None:
    with closing(connected(proxy)) as client:
        client.sendall(b"hello")
        assert client.recv(5, socket.MSG_WAITALL) == b"hello"
        proxy.drop(reset=reset)
        if reset:
            with pytest.raises(ConnectionResetError):
                all_of(client)
        else:
            assert all_of(client) == b""


def test_held_bytes_come_later_and_nothing_is_closed(proxy: Proxy, received: list[bytes]) -> None:
    proxy.hold()
    with closing(connected(proxy)) as client:
        client.sendall(b"hello")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(5)
        assert received == []
        proxy.release()
        client.settimeout(10)
        assert client.recv(5, socket.MSG_WAITALL) == b"hello"


def test_a_delay_holds_up_each_piece(proxy: Proxy) -> None:
    proxy.delay = 0.1
    with closing(connected(proxy)) as client:
        begin = time.monotonic()
        client.sendall(b"hello")
        assert client.recv(5, socket.MSG_WAITALL) == b"hello"
        assert time.monotonic() - begin >= 0.2


def test_new_connections_are_refused_until_it_is_mended(proxy: Proxy) -> None:
    proxy.refuses = True
    with closing(connected(proxy)) as client:
        assert all_of(client) == b""
    proxy.mend()
    with closing(connected(proxy)) as client:
        client.sendall(b"hello")
        assert client.recv(5, socket.MSG_WAITALL) == b"hello"


def test_where_no_server_listens_the_client_is_let_go() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with Proxy(port) as proxy, closing(connected(proxy)) as client:
        assert all_of(client) == b""
