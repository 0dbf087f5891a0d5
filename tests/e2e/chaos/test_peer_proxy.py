"""The network between members breaks as it is told to, one direction at a time."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from time import monotonic

import pytest

from tests.support.chaos.cluster import Ports
from tests.support.peer_proxy import PeerProxy, apart, between
from tests.support.servers_proc import wait_until
from tests.support.socket_owner import _asked_inode, _listed_inode, socket_owner

ANSWER_SECONDS_MAX = 60.0
SILENCE_SECONDS = 0.3


class Echo(threading.Thread):
    """Sends back whatever comes, on any number of connections; hangs up when told `bye`."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.heard = b""

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while piece := connection.recv(4096):
                    self.heard += piece
                    if piece == b"bye":
                        return
                    connection.sendall(piece)
            except OSError:
                return

    def stop(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.join(ANSWER_SECONDS_MAX)


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()
    echo.start()
    yield echo
    echo.stop()


@pytest.fixture
def port() -> int:
    return Ports().take()


@pytest.fixture
def proxy(echo: Echo, port: int) -> Iterator[PeerProxy]:
    """This process is the member `a`, who dials `b`; the echo is `b`."""
    proxy = PeerProxy(lambda: {"a": os.getpid()})
    proxy.open("b", port, echo.port)
    yield proxy
    proxy.close()


@pytest.fixture
def connection(proxy: PeerProxy, port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS_MAX) as connection:
        connection.sendall(b"hello")
        assert received(connection, 5) == b"hello"
        yield connection


def received(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            break
        data += piece
    return data


def assert_silent(connection: socket.socket) -> None:
    connection.settimeout(SILENCE_SECONDS)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    connection.settimeout(ANSWER_SECONDS_MAX)


def test_it_knows_who_dials(proxy: PeerProxy, connection: socket.socket) -> None:
    assert proxy.links() == [("a", "b")]


def test_a_request_that_is_cut_off_arrives_when_it_heals(
    proxy: PeerProxy, connection: socket.socket, echo: Echo
) -> None:
    proxy.cut([("a", "b")])
    connection.sendall(b"later")
    assert_silent(connection)
    assert echo.heard == b"hello"
    proxy.heal()
    assert received(connection, 5) == b"later"


def test_an_answer_that_is_cut_off_arrives_when_it_heals(
    proxy: PeerProxy, connection: socket.socket, echo: Echo
) -> None:
    proxy.cut([("b", "a")])
    connection.sendall(b"heard")
    assert_silent(connection)
    wait_until(lambda: echo.heard == b"hello" + b"heard", ANSWER_SECONDS_MAX, "it arrives")
    proxy.heal()
    assert received(connection, 5) == b"heard"


def test_the_end_of_a_connection_is_held_too(
    proxy: PeerProxy, connection: socket.socket, echo: Echo
) -> None:
    proxy.cut([("b", "a")])
    connection.sendall(b"bye")
    assert_silent(connection)
    wait_until(lambda: echo.heard == b"hello" + b"bye", ANSWER_SECONDS_MAX, "it arrives")
    proxy.heal()
    assert connection.recv(1) == b""


def test_a_reset_is_heard(proxy: PeerProxy, connection: socket.socket) -> None:
    proxy.reset(["b"])
    with contextlib.suppress(ConnectionResetError):
        assert connection.recv(1) == b""
    wait_until(lambda: proxy.links() == [], ANSWER_SECONDS_MAX, "the link is gone")


def test_a_slow_path_still_delivers(proxy: PeerProxy, connection: socket.socket) -> None:
    proxy.slow([("a", "b")], 2 * SILENCE_SECONDS)
    sent = monotonic()
    connection.sendall(b"slow")
    assert received(connection, 4) == b"slow"
    assert monotonic() - sent >= 2 * SILENCE_SECONDS


def test_strangers_get_nowhere(proxy: PeerProxy, port: int, echo: Echo) -> None:
    """A process that is no member: no path of it could be cut."""
    dial = f"""
import socket
with socket.create_connection(("127.0.0.1", {port}), 60) as stranger:
    try:
        stranger.sendall(b"let me in")
        print(stranger.recv(1) == b"")
    except ConnectionError:
        print(True)
"""
    told = subprocess.run([sys.executable, "-c", dial], capture_output=True, check=True)
    assert told.stdout == b"True\n"
    assert echo.heard == b""


def test_paths() -> None:
    assert between("a", "ab") == [("a", "b")]
    assert sorted(apart("a", "b", "c")) == [
        ("a", "b"), ("a", "c"), ("b", "a"), ("b", "c"), ("c", "a"), ("c", "b"),
    ]  # fmt: skip


@pytest.mark.parametrize("find", [_asked_inode, _listed_inode])
def test_both_ways_of_finding_a_socket(find: Callable[[int, int], int], echo: Echo) -> None:
    with socket.create_connection(("127.0.0.1", echo.port)) as connection:
        port = connection.getsockname()[1]
        found = find(port, echo.port)
        assert found == os.fstat(connection.fileno()).st_ino
        assert socket_owner(port, echo.port, {"me": os.getpid()}) == "me"
    assert find(1, 2) == 0
