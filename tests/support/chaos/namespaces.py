"""Members in network namespaces of their own, on one bridge: packets get lost, not bytes held back.

The proxy (`tests/support/peer_proxy.py`) cuts what TCP carries; here TCP itself is cut. A path that
loses packets loses acknowledgements too, connections are neither made nor ended, and the kernel
retransmits at its own pace once the network heals.

    a path is cut     its sender is given a hardware address for the other one that nobody has
    a member is unplugged   its end of the cable is down, for its clients too
    a path is slow    `netem`, where the kernel has it; else a line so thin that one packet takes
                      that long
    a reset           `ss -K`, where the kernel lets it

All of it needs iproute2 and the right to make namespaces: as root, or where users may have a
namespace of users. The whole run is a process tree in namespaces of its own (`enter`), processes
included, so the kernel takes everything away when its first process ends, however that ends.

Owner: one thread; `ip` and `tc` are asked for each change.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.support.peer_proxy import Direction

INSIDE = "KEYDECK_IN_NAMESPACES"
NETWORK = "10.89.0"
HARNESS = 254
"""The clients' own host number on the bridge."""
NOWHERE = "02:00:00:00:ff:ff"
PACKET_BITS = 1500 * 8
QUEUE_PACKETS = 30
"""Of a thin line: what waits longer than so many packets take is lost, as on a real one."""
UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
AS_SOMEBODY = ("unshare", "--user", "--map-root-user", *UNSHARE[1:])
PROBE_SECONDS_MAX = 30.0


class NotHere(Exception):
    """Namespaces cannot be had on this machine; says why."""


def prefix() -> tuple[str, ...]:
    """The command before a command that gives it namespaces to work in; raises NotHere."""
    probe = (sys.executable, "-m", "tests.support.chaos.namespaces")
    why = ""
    for unshare in (UNSHARE, AS_SOMEBODY):
        try:
            done = subprocess.run(
                (*unshare, *probe),
                capture_output=True,
                text=True,
                check=False,
                timeout=PROBE_SECONDS_MAX,
                env={**os.environ, INSIDE: "1"},
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotHere(f"no namespaces here: {error}") from None
        if done.returncode == 0:
            return unshare
        why = why or done.stderr.strip().rpartition("\n")[2]
    raise NotHere(f"no namespaces here: {why}")


def enter(arguments: Sequence[str]) -> None:
    """Become this program again, inside. Returns where that has happened."""
    if not os.environ.get(INSIDE):
        command = [*prefix(), sys.executable, *arguments]
        os.execvpe(command[0], command, {**os.environ, INSIDE: "1"})


class Namespaces:
    """The bridge and who is on it. Made inside only (`enter`)."""

    def __init__(self) -> None:
        assert os.environ.get(INSIDE), "only in namespaces of one's own"
        self._numbers: dict[str, int] = {}
        self._added = 0
        _run("mount", "-t", "tmpfs", "tmpfs", "/run")  # names of namespaces live there
        Path("/run/netns").mkdir()
        _ip("link set dev lo up")
        _ip("link add name bridge0 type bridge stp_state 0 forward_delay 0")
        _ip(f"addr add {NETWORK}.{HARNESS}/24 dev bridge0")
        _ip("link set dev bridge0 up")

    def add(self, name: str) -> tuple[str, tuple[str, ...]]:
        """A namespace for this member: its address, and what to put before its command."""
        self._added += 1
        number = self._added
        _ip(f"netns add {name}")
        _ip(f"link add name {name} type veth peer name eth0 netns {name}")
        _ip(f"link set dev {name} master bridge0 up")
        _ip(f"link set dev eth0 address {_hardware(number)}", name)
        _ip(f"addr add {_address(number)}/24 dev eth0", name)
        _ip("link set dev lo up", name)
        _ip("link set dev eth0 up", name)
        self._numbers[name] = number
        for other in self._numbers:
            self._lead([(name, other), (other, name)], is_open=True)
        return _address(number), ("nsenter", f"--net=/run/netns/{name}")

    def forget(self, name: str) -> None:
        """Nobody reaches it any more."""
        del self._numbers[name]
        _ip(f"link del dev {name}")
        _ip(f"netns del {name}")

    def cut(self, paths: Iterable[Direction]) -> None:
        self._lead(paths, is_open=False)

    def unplug(self, names: Iterable[str]) -> None:
        for name in names:
            _ip(f"link set dev {name} down")

    def slow(self, paths: Iterable[Direction], seconds: float) -> None:
        """Each packet that goes this way takes `seconds`; see the head of this file for how."""
        kept: dict[str, list[str]] = {}
        for sender, receiver in paths:
            kept.setdefault(sender, []).append(_address(self._numbers[receiver]))
        for sender, receivers in kept.items():
            self._thin(sender, receivers, seconds)

    def reset(self, names: Iterable[str]) -> None:
        """Break all connections between these members and others, at once and audibly."""
        others = " or ".join(f"dst {_address(number)}" for number in self._numbers.values())
        for name in names:
            inside = ("nsenter", f"--net=/run/netns/{name}")
            _run(*inside, "ss", "-K", "-t", "state", "established", f"( {others} )")

    def heal(self) -> None:
        for name in self._numbers:
            _ip(f"link set dev {name} up")
            _tc(name, "qdisc del dev eth0 root", is_vain=True)
        self._lead([(one, other) for one in self._numbers for other in self._numbers], is_open=True)

    def close(self) -> None:
        for name in list(self._numbers):
            self.forget(name)
        _ip("link del dev bridge0")
        _run("umount", "-l", "/run")

    def can_reset(self) -> bool:
        """Whether the kernel lets `ss -K` break a connection."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)) as one:
                _run("ss", "-K", "-t", "state", "established", f"dport = {port}")
                return one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0

    def can_delay(self) -> bool:
        """Whether `slow` is a delay here, or a thin line."""
        return _tc("", "qdisc add dev lo root netem delay 1ms", is_vain=True) and _tc(
            "", "qdisc del dev lo root"
        )

    def _lead(self, paths: Iterable[Direction], *, is_open: bool) -> None:
        """Where each sender's packets go. Entries of one's own making are never asked for."""
        for sender, receiver in paths:
            if sender == receiver:
                continue
            number = self._numbers[receiver]
            to = _hardware(number) if is_open else NOWHERE
            _ip(f"neigh replace {_address(number)} lladdr {to} dev eth0 nud permanent", sender)

    def _thin(self, sender: str, receivers: Sequence[str], seconds: float) -> None:
        wide, rate = "10gbit", int(PACKET_BITS / seconds)
        delays = self.can_delay()
        _tc(sender, "qdisc replace dev eth0 root handle 1: htb default 1")
        _tc(sender, f"class add dev eth0 parent 1: classid 1:1 htb rate {wide} quantum 1514")
        slow = f"rate {wide} quantum 1514" if delays else f"rate {rate}bit burst 1600 quantum 1514"
        _tc(sender, f"class add dev eth0 parent 1: classid 1:2 htb {slow}")
        leaf = f"netem delay {int(seconds * 1000)}ms" if delays else f"pfifo limit {QUEUE_PACKETS}"
        _tc(sender, f"qdisc add dev eth0 parent 1:2 {leaf}")
        for receiver in receivers:
            match = f"match ip dst {receiver}/32 flowid 1:2"
            _tc(sender, f"filter add dev eth0 parent 1: protocol ip u32 {match}")


def _address(number: int) -> str:
    return f"{NETWORK}.{number}"


def _hardware(number: int) -> str:
    return f"02:00:00:00:00:{number:02x}"


def _ip(words: str, namespace: str = "") -> None:
    _run("ip", *(("-n", namespace) if namespace else ()), *words.split())


def _tc(namespace: str, words: str, *, is_vain: bool = False) -> bool:
    """`is_vain`: it may be refused."""
    where = ("-n", namespace) if namespace else ()
    return _run("tc", *where, *words.split(), is_vain=is_vain)


def _run(*command: str, is_vain: bool = False) -> bool:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and not is_vain:
        raise NotHere(f"{' '.join(command)}: {done.stderr.strip()}")
    return not done.returncode


def _probe() -> None:
    """Everything a run needs, once."""
    network = Namespaces()
    network.add("a")
    network.add("b")
    network.cut([("a", "b")])
    network.slow([("a", "b")], 0.1)
    network.reset(["a"])
    network.heal()
    network.close()


if __name__ == "__main__":
    try:
        _probe()
    except (NotHere, OSError) as error:
        sys.exit(str(error))
