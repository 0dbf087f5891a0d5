"""The Python and the curl text are equivalent: run as they are shown, they do the thing."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys

import pytest

from console.equivalent import Command, calls_of
from console.etcdctl import Etcdctl
from console.keys.paging import prefix_range
from console.keys.txn import Delete, Get, Guard, Put, Txn, danger, none_newer, unchanged
from tests.console.conftest import Store
from tests.support.servers import Server

ON_EVERY_SERVER = True

HOSTILE = [b"plain", b'it\'s "quoted" $HOME `id` \\n', b"\xff\xfe\x00 \n", "größe/日本".encode()]


def run(words: list[str]) -> list[dict]:
    done = subprocess.run(words, capture_output=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.decode().splitlines() if line]


def by_curl(command: Command) -> list[dict]:
    assert shutil.which("curl"), "these tests need curl on PATH"
    return run(["bash", "-c", command.curl])


def by_python(command: Command) -> list[dict]:
    text = command.python.replace("print(json.loads(line))", "print(json.dumps(json.loads(line)))")
    return run([sys.executable, "-c", text])


@pytest.fixture
def tool(server: Server) -> Etcdctl:
    return Etcdctl((server.client_url,))


@pytest.mark.parametrize("means", [by_curl, by_python])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_get_finds_the_key(tool, store: Store, prefix, means, name) -> None:
    old = store.put(prefix + name, b"one")
    store.put(prefix + name, name)
    [found] = means(tool.get(prefix + name))
    assert base64.b64decode(found["kvs"][0]["value"]) == name
    [found] = means(tool.get(prefix + name, old, consistency="s"))
    assert base64.b64decode(found["kvs"][0]["value"]) == b"one"
    [listed] = means(tool.list(prefix, 10))
    assert [base64.b64decode(kv["key"]) for kv in listed["kvs"]] == [prefix + name]


@pytest.mark.parametrize("means", [by_curl, by_python])
def test_guarded_writes_write_and_refuse(tool, store: Store, prefix, means) -> None:
    value = b"it's \xff\n"
    assert means(tool.put(prefix, value, base=0))[0]["succeeded"]
    assert store.get(prefix).value == value
    assert not means(tool.put(prefix, b"again", base=0))[0].get("succeeded")
    assert means(tool.delete(prefix, base=store.get(prefix).mod_revision))[0]["succeeded"]
    assert store.get(prefix) is None


@pytest.mark.parametrize("means", [by_curl, by_python])
def test_every_kind_of_operation_and_compare(tool, store: Store, prefix, means) -> None:
    lease = store.grant_lease(3600)
    store.put(prefix + b"a", b"v", lease)
    keys = prefix_range(prefix)
    txn = Txn(
        (
            unchanged(prefix + b"a", store.revision()),
            none_newer(keys, store.revision()),
            Guard(prefix + b"a", "lease", "=", lease),
            Guard(prefix + b"a", "value", "=", b"v"),
            Guard(prefix + b"a", "version", ">", 0),
            Guard(prefix + b"a", "create", "!=", 0),
        ),
        (
            Get(keys.start, keys.end, limit=1, keys_only=True),
            Put(prefix + b"a", b"w", keeps_lease=True),
            Put(prefix + b"b", b"x", lease=lease),
            Delete(prefix + b"c", keys.end),
        ),
        (Get(prefix),),
    )
    [answer] = means(tool.txn(txn))
    assert answer["succeeded"]
    assert store.get(prefix + b"a").lease == store.get(prefix + b"b").lease == lease


@pytest.mark.parametrize(
    "words",
    [
        ["lease", "list"],
        ["lease", "grant", "60"],
        ["endpoint", "status", "--cluster", "-w", "table"],
        ["endpoint", "hashkv", "--cluster"],
        ["member", "list"],
        ["alarm", "list"],
        ["user", "list"],
        ["role", "list"],
        ["role", "add", "'it'\\''s'"],
    ],
    ids=" ".join,
)
def test_plain_words_have_a_call_of_the_gateway(tool, words) -> None:
    command = tool.line(*words)
    assert command.calls
    [answer] = by_curl(command)
    assert "error" not in answer
    assert "header" in answer or words == ["alarm", "list"]  # spec/kv.md H2: none from an old etcd
    if words[1] == "add":
        by_curl(tool.line("role", "delete", words[2]))


def test_a_lease_is_named_in_decimal_on_the_wire(tool, store: Store, prefix) -> None:
    lease = store.grant_lease(3600, 0x7FFF_FFFF_FFFF_FF01)  # trap 3: every digit
    [answer] = by_curl(tool.lease("timetolive", lease, "--keys"))
    assert answer["ID"] == str(lease)
    by_python(tool.lease("revoke", lease))
    assert by_curl(tool.lease("timetolive", lease))[0]["TTL"] == "-1"


def test_no_secret_and_no_megabyte_stands_in_it() -> None:
    tool = Etcdctl(("http://h:1",), "rita")
    command = tool.put(b"k", b"x" * 100_000, base=0)
    for text in (command, command.python, command.curl):
        assert len(text) < 2000
    assert "$ETCD_TOKEN" in command.curl
    assert 'os.environ["ETCD_TOKEN"]' in command.python
    add = tool.line("user", "add", "bob")
    assert '"password": "..."' in add.curl


def test_words_the_gateway_has_no_call_for_have_none() -> None:
    assert calls_of(["snapshot", "save", "f"]) == ()
    assert calls_of(["member", "remove", "not-hex"]) == ()
    assert calls_of(["user", "add", '--new-user-password="$PASSWORD"', "x"]) == ()


def test_the_level_of_danger_is_that_of_the_worst_operation() -> None:
    read, put, one, many = Get(b"a"), Put(b"a", b"v"), Delete(b"a"), Delete(b"a", b"b")
    assert danger(Txn((), (read,))) == 0
    assert danger(Txn((), (read, put))) == 1
    assert danger(Txn((), (put,), (one,))) == 2  # whichever branch
    assert danger(Txn((), (put,), (one, many))) == 3
    assert danger(Txn((), (Delete(b"a", b"a\0"),))) == 2
