"""Keydeck and real etcd members that speak TLS to one another (spec/peer.md §8, case 22)."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from kvserver.tls.certificates import serial_text
from tests.compat.test_mixed_cluster import check_writes
from tests.support.certificates import Authority
from tests.support.cluster_proc import KEYDECK, cluster_of
from tests.support.etcd_binaries import EtcdRelease
from tests.support.servers_proc import wait_until


def test_mutual_tls_both_ways(tmp_path: Path, release35: EtcdRelease) -> None:
    etcd = (str(release35.etcd),)
    authority = Authority()
    ca, crl = tmp_path / "ca.crt", tmp_path / "crl.der"
    ca.write_bytes(authority.certificate)
    crl.write_bytes(authority.revoke().public_bytes(Encoding.DER))
    issued = {}
    with cluster_of(tmp_path, KEYDECK, etcd, etcd, starts=False, scheme="https") as cluster:
        for member in cluster.members:
            name = member.process.name
            issued[name] = authority.issue("member", "127.0.0.1")
            cert, key = issued[name].write(tmp_path, name)
            member.process.flags = (
                f"--peer-cert-file={cert}",
                f"--peer-key-file={key}",
                f"--peer-trusted-ca-file={ca}",
                "--peer-client-cert-auth",
                "--peer-cert-allowed-cn=member",
                f"--peer-crl-file={crl}",
            )
        cluster.start()
        for member in cluster.members[:2]:
            cluster.lead(member)
            check_writes(cluster, member.process.name.encode())

        # Revoked on both kinds alike: what the member dials from now on is refused.
        ours, theirs, late = cluster.members
        serial = issued[late.process.name].serial
        assert late.process.terminate() is not None
        crl.write_bytes(authority.revoke(issued[late.process.name]).public_bytes(Encoding.DER))
        late.process.spawn()
        text = f"certificate serial {serial_text(serial)} revoked"
        for member in (ours, theirs):
            wait_until(lambda of=member: text in of.process.log(5_000_000), 120, text)


def test_certificates_that_each_member_makes(tmp_path: Path, release35: EtcdRelease) -> None:
    etcd = (str(release35.etcd),)
    flags = ("--peer-auto-tls",)
    with cluster_of(tmp_path, KEYDECK, etcd, KEYDECK, flags=flags, scheme="https") as cluster:
        check_writes(cluster, b"k")
