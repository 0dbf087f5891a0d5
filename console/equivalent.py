"""The same thing done without the console: what `_command.html` offers. No Django in here.

A `Command` is etcdctl's text, and knows the calls of the JSON gateway that do the same, from which
the Python and the curl text are made. Secrets are named, never written.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from console.keys.byte_text import parse
from console.keys.paging import FROM_NUL, KeyRange, after, prefix_range
from console.keys.txn import Delete, Get, Guard, Operation, Put, Txn

VALUE_BYTES_MAX = 4096
"""A longer value is named by its size: nobody pastes a megabyte."""

Body = dict[str, Any]
"""What a call carries. Bytes are bytes; 64-bit numbers are strings, as the gateway writes them."""


@dataclass(frozen=True, slots=True)
class Call:
    path: str
    body: Body
    is_stream: bool = False


class Command(str):
    """etcdctl's text, and the calls that mean the same; none where the gateway cannot say it."""

    calls: tuple[Call, ...]
    endpoint: str
    user: str

    def __new__(
        cls, text: str, calls: Sequence[Call] = (), endpoint: str = "", user: str = ""
    ) -> Command:
        made = super().__new__(cls, text)
        made.calls, made.endpoint, made.user = tuple(calls), endpoint, user
        return made

    @property
    def curl(self) -> str:
        return "\n".join([*self._curl_head(), *map(self._curl_call, self.calls)])

    def _curl_head(self) -> list[str]:
        return (
            [f"# ETCD_TOKEN: what /v3/auth/authenticate answers the user {self.user}"]
            if self.user
            else []
        )

    def _curl_call(self, call: Call) -> str:
        body = json.dumps(_jsonable(call.body)).replace("'", "\\u0027")
        token = ' -H "Authorization: $ETCD_TOKEN"' if self.user else ""
        return (
            f"curl -sS{'N' if call.is_stream else ''}{token} {self.endpoint}{call.path} -d '{body}'"
        )

    @property
    def python(self) -> str:
        lines = (
            ["import base64, json, os, urllib.request"]
            if self.user
            else ["import base64, json, urllib.request"]
        )
        token = ', "Authorization": os.environ["ETCD_TOKEN"]' if self.user else ""
        lines += [
            "",
            "def b64(data):",
            "    return base64.b64encode(data).decode()",
            "",
            "def call(path, body):",
            f'    request = urllib.request.Request("{self.endpoint}" + path,',
            "        json.dumps(body).encode(),",
            f'        {{"Content-Type": "application/json"{token}}})',
            "    with urllib.request.urlopen(request) as answer:",
            "        for line in answer:",
            "            print(json.loads(line))",
            "",
        ]
        lines += [f"call({json.dumps(c.path)}, {_python(c.body)})" for c in self.calls]
        return "\n".join(lines)


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: _jsonable(item) for name, item in value.items()}
    return [_jsonable(item) for item in value] if isinstance(value, list) else value


def _python(value: Any) -> str:
    if isinstance(value, bytes):
        return f"b64({value!r})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{n!r}: {_python(v)}" for n, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_python, value)) + "]"
    return repr(value)


# --- keys -----------------------------------------------------------------------------------------


def range_call(
    key: bytes,
    end: bytes = b"",
    *,
    limit: int = 0,
    revision: int = 0,
    is_serializable: bool = False,
) -> Call:
    body: Body = {"key": key}
    if end:
        body["range_end"] = end
    if limit:
        body["limit"] = str(limit)
    if revision:
        body["revision"] = str(revision)
    if is_serializable:
        body["serializable"] = True
    return Call("/v3/kv/range", body)


def watch_call(keys: KeyRange, revision: int) -> Call:
    body: Body = {"key": keys.start, "prev_kv": True}
    if not (keys.has_end and keys.end == after(keys.start)):
        body["range_end"] = keys.end
    if revision:
        body["start_revision"] = str(revision)
    return Call("/v3/watch", {"create_request": body}, is_stream=True)


def txn_call(txn: Txn) -> Call:
    body: Body = {"compare": [_compare(guard) for guard in txn.guards]} if txn.guards else {}
    body["success"] = [_operation(one) for one in txn.then]
    if txn.otherwise:
        body["failure"] = [_operation(one) for one in txn.otherwise]
    return Call("/v3/kv/txn", body)


SIGNS = {"=": "EQUAL", "!=": "NOT_EQUAL", ">": "GREATER", "<": "LESS"}
FIELDS = {"mod": "mod_revision", "create": "create_revision"}


def _compare(guard: Guard) -> Body:
    field = FIELDS.get(guard.target, guard.target)
    given = guard.given if isinstance(guard.given, bytes) else str(guard.given)
    body: Body = {"key": guard.key, "target": guard.target.upper(), "result": SIGNS[guard.sign]}
    body[field] = given
    return body | ({"range_end": guard.end} if guard.end else {})


def _operation(one: Operation) -> Body:
    if isinstance(one, Put):
        body: Body = {"key": one.key, "value": shown_value(one.value)}
        body |= {"lease": str(one.lease)} if one.lease else {}
        return {"request_put": body | ({"ignore_lease": True} if one.keeps_lease else {})}
    body = {"key": one.key} | ({"range_end": one.end} if one.end else {})
    if isinstance(one, Delete):
        return {"request_delete_range": body}
    assert isinstance(one, Get)
    body |= {"limit": str(one.limit)} if one.limit else {}
    return {"request_range": body | ({"keys_only": True} if one.keys_only else {})}


def shown_value(value: bytes) -> bytes | str:
    if len(value) <= VALUE_BYTES_MAX:
        return value
    return f"... {len(value)} bytes in base64 ..."


# --- everything that is an etcdctl line of plain words -------------------------------------------


def calls_of(words: Sequence[str]) -> tuple[Call, ...]:
    """The calls that do what `etcdctl WORDS` does; none where they are not known here."""
    try:
        texts = [unquoted(word) for word in words]
    except ValueError:
        return ()
    flags = [text for text in texts if text.startswith("--") and text != "--"]
    operands = [text for text in texts if not text.startswith("-")]
    make = WORDS.get(tuple(operands[:2])) or WORDS.get(tuple(operands[:1]))
    if make is None:
        return ()
    skip = 2 if tuple(operands[:2]) in WORDS else 1
    try:
        found = make(operands[skip:], flags)
    except (IndexError, ValueError):
        return ()
    return () if found is None else (found,)


def unquoted(word: str) -> str:
    """What a shell makes of one word as etcdctl.shell_word writes it."""
    if word.startswith("$'"):
        return parse(word[2:-1].replace("\\'", "'")).decode()
    if word.startswith("'"):
        return word[1:-1].replace("'\\''", "'")
    if '"' in word or "$" in word:  # a variable: only the shell knows
        raise ValueError(word)
    return word


Make = Callable[[list[str], list[str]], Call | None]


def _simple(path: str, *names: str) -> Make:
    """Operands become fields of the body, in order."""
    return lambda operands, flags: Call(path, dict(zip(names, operands, strict=True)))


def _by_id(path: str, name: str = "ID") -> Make:
    """The first operand is an id in hexadecimal."""

    def make(operands: list[str], flags: list[str]) -> Call:
        body: Body = {name: str(int(operands[0], 16))}
        return Call(path, body | ({"keys": True} if "--keys" in flags else {}))

    return make


def _span(keys: list[bytes], flags: list[str]) -> Body:
    if "--prefix" in flags:
        found = prefix_range(keys[0])
        return {"key": found.start, "range_end": found.end}
    if "--from-key" in flags:
        return {"key": keys[0], "range_end": FROM_NUL}
    return {"key": keys[0]} | ({"range_end": keys[1]} if len(keys) > 1 else {})


def _grant(operands: list[str], flags: list[str]) -> Call:
    name, kind, *keys = operands
    span = _span([key.encode() for key in keys], flags)
    return Call("/v3/auth/role/grant", {"name": name, "perm": {"permType": kind.upper()} | span})


def _revoke(operands: list[str], flags: list[str]) -> Call:
    name, *keys = operands
    span = _span([key.encode() for key in keys], flags)
    return Call("/v3/auth/role/revoke", {"role": name} | span)


def _add_user(operands: list[str], flags: list[str]) -> Call:
    if "--no-password" in flags:
        return Call("/v3/auth/user/add", {"name": operands[0], "options": {"no_password": True}})
    return Call("/v3/auth/user/add", {"name": operands[0], "password": "..."})


def _change_password(operands: list[str], flags: list[str]) -> Call:
    return Call("/v3/auth/user/changepw", {"name": operands[0], "password": "..."})


def _compact(operands: list[str], flags: list[str]) -> Call:
    body: Body = {"revision": str(int(operands[0]))}
    return Call("/v3/kv/compaction", body | ({"physical": True} if "--physical" in flags else {}))


def _add_member(operands: list[str], flags: list[str]) -> Call:
    [urls] = [flag.split("=", 1)[1] for flag in flags if flag.startswith("--peer-urls=")]
    body: Body = {"peerURLs": urls.split(",")}
    return Call(
        "/v3/cluster/member/add", body | ({"isLearner": True} if "--learner" in flags else {})
    )


WORDS: dict[tuple[str, ...], Make] = {
    ("lease", "list"): _simple("/v3/lease/leases"),
    ("lease", "timetolive"): _by_id("/v3/lease/timetolive"),
    ("lease", "keep-alive"): _by_id("/v3/lease/keepalive"),
    ("lease", "revoke"): _by_id("/v3/lease/revoke"),
    ("lease", "grant"): _simple("/v3/lease/grant", "TTL"),
    ("endpoint", "status"): lambda operands, flags: Call("/v3/maintenance/status", {}),
    ("endpoint", "hashkv"): lambda operands, flags: Call("/v3/maintenance/hash", {}),
    ("defrag",): _simple("/v3/maintenance/defragment"),
    ("compaction",): _compact,
    ("compact",): _compact,
    ("alarm", "list"): lambda operands, flags: Call("/v3/maintenance/alarm", {"action": "GET"}),
    ("member", "list"): lambda operands, flags: Call("/v3/cluster/member/list", {}),
    ("member", "add"): _add_member,
    ("member", "remove"): _by_id("/v3/cluster/member/remove"),
    ("member", "promote"): _by_id("/v3/cluster/member/promote"),
    ("move-leader",): _by_id("/v3/maintenance/transfer-leadership", "targetID"),
    ("auth", "enable"): _simple("/v3/auth/enable"),
    ("auth", "disable"): _simple("/v3/auth/disable"),
    ("auth", "status"): _simple("/v3/auth/status"),
    ("user", "list"): _simple("/v3/auth/user/list"),
    ("user", "get"): _simple("/v3/auth/user/get", "name"),
    ("user", "add"): _add_user,
    ("user", "passwd"): _change_password,
    ("user", "delete"): _simple("/v3/auth/user/delete", "name"),
    ("user", "grant-role"): _simple("/v3/auth/user/grant", "user", "role"),
    ("user", "revoke-role"): _simple("/v3/auth/user/revoke", "name", "role"),
    ("role", "list"): _simple("/v3/auth/role/list"),
    ("role", "get"): _simple("/v3/auth/role/get", "role"),
    ("role", "add"): _simple("/v3/auth/role/add", "name"),
    ("role", "delete"): _simple("/v3/auth/role/delete", "role"),
    ("role", "grant-permission"): _grant,
    ("role", "revoke-permission"): _revoke,
}
