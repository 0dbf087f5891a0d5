"""What `test_namespaces.py` runs inside: the network of namespaces, and rounds over it.

That a datagram is lost is seen by the next one, which is not: what goes one way arrives in order.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import permutations
from pathlib import Path

import pytest

from tests.e2e.chaos.test_chaos import at, play
from tests.support.chaos.cluster import chaos_cluster
from tests.support.chaos.faults import Deafen, Isolate, Mute, Resets, SlowNetwork, Unplug
from tests.support.chaos.namespaces import Namespaces
from tests.support.chaos.rounds import Rounds
from tests.support.servers_proc import wait_until

PORT = 7000
SECONDS_MAX = 20.0
TRY_SECONDS = 0.1
CLONE_NEWNET = 0x40000000
FULL = bytes(1400)


def socket_in(name: str, kind: socket.SocketKind) -> socket.socket:
    """A socket belongs to the namespace of the thread that makes it, whoever uses it later."""
    made: list[socket.socket] = []

    def make() -> None:
        namespace = os.open(f"/run/netns/{name}", os.O_RDONLY)
        try:
            assert ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET) == 0
        finally:
            os.close(namespace)
        made.append(socket.socket(socket.AF_INET, kind))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    made[0].settimeout(SECONDS_MAX)
    return made[0]


class Hosts:
    """`a`, `b` and `c` on one network, with a datagram socket each."""

    def __init__(self) -> None:
        self.network = Namespaces()
        self.addresses = {name: self.network.add(name)[0] for name in "abc"}
        self.sockets = {name: socket_in(name, socket.SOCK_DGRAM) for name in "abc"}
        for name, each in self.sockets.items():
            each.bind((self.addresses[name], PORT))
        for path in permutations("abc", 2):
            self.wait_for(*path)

    def wait_for(self, sender: str, receiver: str) -> set[bytes]:
        """A port of a bridge takes its time to open: until something comes through, and all of
        it has. Returns all that did."""
        wanted, heard = 0, set[bytes]()

        def comes() -> bool:
            nonlocal wanted
            wanted += 1
            self.send(sender, receiver, b"%d" % wanted)
            self.sockets[receiver].settimeout(TRY_SECONDS)
            with suppress(TimeoutError):
                while b"%d" % wanted not in heard:
                    heard.add(self.heard(receiver))
            return b"%d" % wanted in heard

        wait_until(comes, SECONDS_MAX, f"{sender} reaches {receiver}")
        self.sockets[receiver].settimeout(SECONDS_MAX)
        return heard

    def send(self, sender: str, receiver: str, data: bytes) -> None:
        self.sockets[sender].sendto(data, (self.addresses[receiver], PORT))

    def heard(self, name: str) -> bytes:
        return self.sockets[name].recv(4096)

    def close(self) -> None:
        for each in self.sockets.values():
            each.close()
        self.network.close()


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    hosts = Hosts()
    yield hosts
    hosts.close()


def test_a_path_is_cut_in_one_direction(hosts: Hosts) -> None:
    hosts.network.cut([("a", "b")])
    hosts.send("a", "b", b"lost")
    hosts.send("b", "a", b"the other way")
    hosts.send("a", "c", b"somebody else")
    assert (hosts.heard("a"), hosts.heard("c")) == (b"the other way", b"somebody else")
    hosts.network.heal()
    hosts.send("a", "b", b"found")
    assert hosts.heard("b") == b"found"


def test_who_is_unplugged_is_alone(hosts: Hosts) -> None:
    hosts.network.unplug(["a"])
    hosts.send("b", "a", b"lost")
    hosts.send("a", "b", b"lost")
    hosts.send("b", "c", b"the others")
    assert hosts.heard("c") == b"the others"
    hosts.network.heal()
    for sender, receiver in ("ab", "ba"):
        assert b"lost" not in hosts.wait_for(sender, receiver)


def test_a_slow_path_is_overtaken(hosts: Hosts) -> None:
    hosts.network.slow([("a", "b")], SECONDS_MAX)
    for data in (*[FULL] * 10, b"late"):  # a thin line has a little in hand: the first may pass
        hosts.send("a", "b", data)
    hosts.send("a", "c", b"over c")
    hosts.send("c", "b", hosts.heard("c"))
    heard = FULL
    while heard == FULL:
        heard = hosts.heard("b")
    assert heard == b"over c"
    hosts.network.heal()
    hosts.send("a", "b", b"now")
    while hosts.heard("b") != b"now":
        pass


def test_connections_are_broken_audibly(hosts: Hosts) -> None:
    if not hosts.network.can_reset():
        pytest.skip("the kernel does not let ss break connections")
    with socket_in("b", socket.SOCK_STREAM) as listener, socket_in("a", socket.SOCK_STREAM) as one:
        listener.bind((hosts.addresses["b"], PORT))
        listener.listen()
        one.connect((hosts.addresses["b"], PORT))
        accepted, _ = listener.accept()
        with accepted:
            hosts.network.reset(["a"])
            for each in (one, accepted):
                each.settimeout(SECONDS_MAX)
                with pytest.raises(ConnectionError):
                    each.recv(1)


def test_who_has_left_takes_its_place_along(hosts: Hosts) -> None:
    hosts.network.forget("c")
    hosts.network.heal()
    assert not Path("/run/netns/c").exists()


def test_rounds_over_a_network_that_loses_packets(tmp_path: Path) -> None:
    plans = [
        [at(0.1, Isolate("leader"), 0.9), at(0.3, SlowNetwork("follower"), 1.0)],
        [at(0.1, Unplug("leader"), 0.9), at(1.0, Mute("leader"), 1.6)],
        [at(0.1, Deafen("leader"), 0.7), at(0.2, Resets("one"), 0.2)],
    ]
    with chaos_cluster(tmp_path, 3, in_namespaces=True) as cluster:
        rounds = Rounds(cluster, seed=4)
        for number, plan in enumerate(plans):
            result = play(rounds, tmp_path, *plan, number=number)
            assert not result.violations, "\n".join(result.violations)
            assert result.operations > 60
