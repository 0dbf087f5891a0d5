"""An auth store over plain dicts, for tests of what stands on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from kvserver.auth import AuthStore, Checker, Identity, Tokens
from kvserver.auth.tokens import SimpleTokens
from kvserver.proto import auth_pb2


class DictTables:
    def __init__(self) -> None:
        self.tables: dict[str, dict[bytes, bytes]] = defaultdict(dict)

    def put(self, table: str, key: bytes, value: bytes) -> None:
        self.tables[table][key] = value

    def delete(self, table: str, key: bytes) -> None:
        del self.tables[table][key]

    def items(self, table: str) -> list[tuple[bytes, bytes]]:
        return sorted(self.tables[table].items())


class Now:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def permission(kind: int, key: bytes, range_end: bytes = b"") -> auth_pb2.Permission:
    return auth_pb2.Permission(permType=kind, key=key, range_end=range_end)


def make_store(tables: DictTables | None = None, tokens: Tokens | None = None) -> AuthStore:
    store = AuthStore(
        DictTables() if tables is None else tables,
        SimpleTokens(300, Now()) if tokens is None else tokens,
        lambda password: b"hashed at apply: " + password.encode(),
    )
    store.restore()
    return store


class Rig:
    """Setup A of spec/auth.md §10: root with role root, u with role r; auth enabled."""

    def __init__(self, grants: Iterable[auth_pb2.Permission] = ()) -> None:
        self.leases: dict[int, list[bytes]] = {}
        self.store = store = make_store()
        self.checker = Checker(store, lambda lease: self.leases.get(lease, []))
        store.add_user("root", b"", False)
        store.grant_role("root", "root")
        store.add_user("u", b"", False)
        store.add_role("r")
        store.grant_role("u", "r")
        for grant in grants or (permission(2, b"a", b"b"), permission(0, b"c", b"d")):
            store.grant_permission("r", grant)
        store.enable()

    def who(self, name: str) -> Identity:
        return Identity(name, self.store.revision)
