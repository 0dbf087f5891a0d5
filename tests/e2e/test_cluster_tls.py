"""Members that trust only certificates of their own CA (spec/peer.md §8, case 22)."""

from __future__ import annotations

from pathlib import Path

from tests.support.certificates import Authority
from tests.support.cluster_proc import KEYDECK, cluster_of
from tests.support.servers_proc import wait_until


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


def test_members_know_each_other_by_certificate(tmp_path: Path) -> None:
    authority, stranger = Authority(), Authority()
    with cluster_of(tmp_path, KEYDECK, KEYDECK, KEYDECK, starts=False, scheme="https") as three:
        for member in three.members:
            member.process.flags = flags_of(tmp_path, authority, member.process.name)
        three.start()
        revision = three[1].put(b"k", b"v")
        assert three[2].get(b"k") == b"v"
        assert len(three.wait_equal(revision)) == 1
        leader = three.leader()
        late = next(member for member in three.members if member is not leader)
        assert late.process.terminate() == 0
        late.process.flags = flags_of(tmp_path, stranger, "stranger")
        late.process.spawn()
        wait_until(
            lambda: "certificate verify failed" in late.process.log(200_000), 20, "it is refused"
        )
        assert leader.put(b"k", b"without it") > revision
