"""Passwords and tokens are nowhere to be found: not in the log, the backend, a snapshot or the
log file (spec/auth.md §1 and case 31; verification.md, "a canary password").

What the write-ahead log does hold is the sixteen letters of a simple token: every member makes the
token of an Authenticate entry itself, from its letters and its index (§7.1).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.auth.conftest import FAST_HASHES
from tests.support.auth_session import AuthSession
from tests.support.servers_proc import keydeck_server, running

pytestmark = pytest.mark.e2e

SECRETS = ("canary-root-Xq7", "canary-user-Zr8", "canary-next-Lp9", "canary-wrong-Kd5")
ROOT, USER, NEXT, WRONG = SECRETS


def files_with(directory: Path, text: str) -> list[str]:
    return [
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_file() and text.encode() in path.read_bytes()
    ]


def test_no_file_holds_a_password_or_a_token(tmp_path: Path) -> None:
    server = keydeck_server(tmp_path / "data", flags=[FAST_HASHES, "--log-level=debug"])
    with running(server):
        session = AuthSession(server.endpoint)
        do = session.nobody
        do("Auth/UserAdd", name="root", password=ROOT)
        do("Auth/UserGrantRole", user="root", role="root")
        do("Auth/UserAdd", name="u", password=USER)
        do("Auth/UserAdd", name="none", password=WRONG, options={"no_password": True})
        do("Auth/AuthEnable")
        root, u = session.log_in("root", ROOT), session.log_in("u", USER)
        assert do.outcome("Auth/Authenticate", name="u", password=WRONG) != "ok"
        assert do.outcome("Auth/UserAdd", name="refused", password=WRONG) != "ok"
        assert do.outcome("Auth/UserAdd", name="\0", password=WRONG * 9) != "ok"
        root("Auth/UserChangePassword", name="u", password=NEXT)
        next_u = session.log_in("u", NEXT)
        tokens = [caller.metadata["token"] for caller in (root, u, next_u)]
        forged = WRONG + ".9"
        assert session.with_token(forged).outcome("KV/Range", key=b"a") == "invalid auth token"
        root("KV/Put", key=b"the-key-is-found", value=b"v")
        root("Maintenance/Defragment")  # everything reaches the backend's file
        session.close()
    held = {secret: files_with(tmp_path, secret) for secret in (*SECRETS, *tokens, forged)}
    assert not any(held.values()), held
    # The search finds what is there; token letters are in the log and nowhere else.
    assert any("wal" in name for name in files_with(tmp_path, "the-key-is-found"))
    assert any(name.endswith("db") for name in files_with(tmp_path, "the-key-is-found"))
    for token in tokens:
        letters = token.partition(".")[0]
        assert {Path(name).suffix for name in files_with(tmp_path, letters)} == {".wal"}
