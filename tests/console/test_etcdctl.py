"""The equivalent command is equivalent: run by bash with the real etcdctl, it does the thing."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from console.etcdctl import Etcdctl, go_string, shell_word
from tests.support.servers import Server

ON_EVERY_SERVER = True

HOSTILE = [
    b"plain",
    b"with space",
    b'it\'s "quoted"',
    b"$HOME `id` \\n",
    b"-dash",
    b"\xff\xfe",
    "/größe/日本".encode(),
    b"line\nbreak",
    b"tail ",
    b"\\x0a \n\t",
]


def run(command: str) -> str:
    assert shutil.which("etcdctl"), "these tests need etcdctl on PATH"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        timeout=20,
        env=os.environ | {"ETCDCTL_API": "3"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.decode(errors="replace")


@pytest.fixture
def tool(server: Server) -> Etcdctl:
    return Etcdctl((server.client_url,))


@pytest.mark.parametrize("data", HOSTILE)
def test_a_shell_word_is_these_bytes(data: bytes) -> None:
    done = subprocess.run(
        ["bash", "-c", f"printf %s {shell_word(data)}"], capture_output=True, check=True
    )
    assert done.stdout == data


@pytest.mark.parametrize("data", HOSTILE)
def test_put_and_delete_commands_are_guarded(tool, store, prefix: bytes, data: bytes) -> None:
    key = prefix + data
    assert "SUCCESS" in run(tool.put(key, data, base=0))
    found = store.get(key)
    assert found.value == data
    assert "FAILURE" in run(tool.put(key, b"second", base=0))
    assert store.get(key).value == data
    assert "FAILURE" in run(tool.delete(key, base=found.mod_revision + 1))
    assert "SUCCESS" in run(tool.delete(key, base=found.mod_revision))
    assert store.get(key) is None


@pytest.mark.parametrize("data", [*HOSTILE, b"nul\0inside"])
def test_get_and_list_commands_find_the_key(tool, store, prefix: bytes, data: bytes) -> None:
    key = prefix + data
    store.put(key, b"here-it-is")
    assert "here-it-is" in run(tool.get(key))
    assert "here-it-is" in run(tool.list(key, limit=5))


def test_put_keeps_the_lease_when_the_page_does(tool, store, prefix: bytes) -> None:
    lease = store.grant_lease(600)
    revision = store.put(prefix, b"one", lease)
    run(tool.put(prefix, b"two", base=revision, keeps_lease=True))
    assert store.get(prefix).lease == lease


def test_a_long_value_is_named_by_its_size() -> None:
    command = Etcdctl(("http://h:1",)).put(b"k", b"x" * 10_000, base=3)
    assert "10000 bytes" in command
    assert len(command) < 300


def test_go_strings_are_quoted() -> None:
    assert go_string(b'a"b\\c\xff') == r'"a\"b\\c\xff"'


def test_the_user_is_named_and_the_password_is_not() -> None:
    assert "--user=rita" in Etcdctl(("http://h:1",), "rita").get(b"k")
