"""What browsers send: it lies in a file, not in memory, and what is too much is not kept."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.console.serving import Served

pytestmark = pytest.mark.e2e

MIB = 1024 * 1024
UPLOAD = "/c/local/maintenance/snapshots/upload"


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    flags = ["--no-member", "--endpoints=http://127.0.0.1:1"]
    one = Served(tmp_path_factory.mktemp("bodies") / "data", flags=flags)
    one.start()
    yield one
    one.stop()


def post(served: Served, path: str, size: int, *, is_chunked: bool = False) -> tuple[int, str]:
    """`size` bytes that are no form, sent a mebibyte at a time by somebody nobody knows."""
    address = urlsplit(served.base)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    headers = {"Content-Type": "application/octet-stream"}
    if not is_chunked:
        headers["Content-Length"] = str(size)
    blocks = (bytes(min(MIB, size - at)) for at in range(0, size, MIB))
    connection.request("POST", path, blocks, headers, encode_chunked=is_chunked)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def peak_bytes(served: Served) -> int:
    """The most memory that the console has held since it started."""
    assert served._process is not None
    status = Path(f"/proc/{served._process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def test_a_large_body_is_not_held_in_memory(served: Served) -> None:
    assert post(served, UPLOAD, 1000)[0] == 403  # no session, no form
    before = peak_bytes(served)
    assert post(served, UPLOAD, 160 * MIB)[0] == 403
    assert peak_bytes(served) - before < 80 * MIB


@pytest.mark.parametrize("is_chunked", [False, True])
def test_what_is_too_much_is_said_and_not_kept(served: Served, is_chunked: bool) -> None:
    """Whether it says before how much it will be or not."""
    status, text = post(served, "/login", 82 * MIB, is_chunked=is_chunked)
    assert status == 413
    assert "At most 80 MiB" in text
    assert post(served, "/login", 1000, is_chunked=is_chunked)[0] == 403  # and it serves on
