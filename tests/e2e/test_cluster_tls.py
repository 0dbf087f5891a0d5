"""Members that trust only certificates of their own CA (spec/peer.md §8, case 22)."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from kvserver.tls.certificates import serial_text
from tests.support.certificates import Authority
from tests.support.cluster_proc import KEYDECK, ClusterMember, cluster_of
from tests.support.servers_proc import wait_until

SECONDS_MAX = 120.0
"""Only an upper bound for a test that hangs."""


def flags_of(directory: Path, authority: Authority, name: str) -> tuple[str, ...]:
    certificate, key = authority.issue(name, "127.0.0.1").write(directory, name)
    ca = directory / f"{name}-ca.crt"
    ca.write_bytes(authority.certificate)
    return (
        f"--peer-cert-file={certificate}",
        f"--peer-key-file={key}",
        f"--peer-trusted-ca-file={ca}",
        "--peer-client-cert-auth",
    )


def log_of(member: ClusterMember) -> str:
    return member.process.log(5_000_000)


def test_members_know_each_other_by_certificate(tmp_path: Path) -> None:
    """Mutual TLS, files renewed under the running cluster, a common name, and a revocation."""
    authority, stranger = Authority(), Authority()
    crl = tmp_path / "crl.pem"
    crl.write_bytes(authority.revoke().public_bytes(Encoding.PEM))
    rules = (
        f"--peer-crl-file={crl}",
        "--peer-cert-allowed-cn=m0,m1,m2,m3",
        "--strict-reconfig-check=false",  # which would have links be up for a while first
    )
    with cluster_of(tmp_path, KEYDECK, KEYDECK, KEYDECK, starts=False, scheme="https") as three:
        for member in three.members:
            member.process.flags = (*flags_of(tmp_path, authority, member.process.name), *rules)
        three.start()
        revision = three[1].put(b"k", b"v")
        assert three[2].get(b"k") == b"v"
        assert len(three.wait_equal(revision)) == 1
        leader, others = three.roles()

        # One that joins asks the others over TLS as well.
        joiner = three.joiner("m3")
        joiner.process.peer_scheme = "https"
        joiner.process.initial_cluster = ",".join(
            f"{member.process.name}={member.peer_url}" for member in three.members
        )
        joiner.process.flags += (*flags_of(tmp_path, authority, "m3"), *rules)
        leader.add(joiner.peer_url)
        joiner.process.spawn()
        joiner.process.wait_ready()
        assert joiner.get(b"k") == b"v"

        # Renewed on all of them while they run: links made from now on use the new files.
        renewed = {}
        for member in three.members:
            name = member.process.name
            renewed[name] = authority.issue(name, "127.0.0.1")
            renewed[name].write(tmp_path, name)
        late = others[0]
        assert late.process.terminate() == 0
        late.process.spawn()
        late.process.wait_ready()
        assert late.get(b"k") == b"v"

        # Revoked while it runs: what it dials from now on is refused.
        name = late.process.name
        crl.write_bytes(authority.revoke(renewed[name]).public_bytes(Encoding.PEM))
        assert late.process.terminate() == 0
        late.process.spawn()
        text = f"transport: certificate serial {serial_text(renewed[name].serial)} revoked"
        wait_until(lambda: text in log_of(leader), SECONDS_MAX, "the revoked member is refused")
        refusal = next(line for line in log_of(leader).splitlines() if text in line)
        assert "rejected connection on peer endpoint" in refusal
        crl.write_bytes(authority.revoke().public_bytes(Encoding.PEM))
        late.process.wait_ready()

        # A good certificate in somebody else's name.
        assert late.process.terminate() == 0
        authority.issue("mallory", "127.0.0.1").write(tmp_path, name)
        late.process.spawn()
        wait_until(
            lambda: "client certificate authentication failed" in log_of(leader),
            SECONDS_MAX,
            "a name that is not allowed is refused",
        )
        late.process.kill()

        # Nobody's authority that is known here.
        late.process.flags = flags_of(tmp_path, stranger, "stranger")
        late.process.spawn()
        wait_until(
            lambda: "certificate verify failed" in log_of(late), SECONDS_MAX, "it is refused"
        )
        assert leader.put(b"k", b"without it") > revision


def test_members_that_make_their_own_certificates(tmp_path: Path) -> None:
    """spec/config.md §5 rule 8: nobody verifies them, and the traffic is encrypted; that of a whole
    database for a member that lags too."""
    flags = ("--peer-auto-tls", "--snapshot-count=20", "--snapshot-catchup-entries=5")
    with cluster_of(tmp_path, KEYDECK, KEYDECK, KEYDECK, flags=flags, scheme="https") as three:
        revision = three[0].put(b"k", b"v")
        assert len(three.wait_equal(revision)) == 1
        for member in three.members:
            made = member.process.data_dir / "fixtures" / "peer"
            assert sorted(path.name for path in made.iterdir()) == ["cert.pem", "key.pem"]
        late = three.followers()[0]
        assert late.process.terminate() == 0
        other = three.running()[0]
        for number in range(100):
            revision = other.put(b"%d" % number, b"x" * 1000)
        late.process.spawn()
        late.process.wait_ready()
        assert len(three.wait_equal(revision)) == 1
        assert "received a database snapshot" in log_of(late)
