"""Names of users and roles that are longer than LMDB takes as a key: etcd's bbolt takes sixty times
as much (spec/bbolt.md §3.2.7), and a member that cannot store what its cluster has agreed on would
have to stop.

Such a name is stored under its beginning and a digest of all of it, exactly as long as a key can
be. The whole name is in the record, as its first field, so that it can be given back. Everybody but
the file itself sees whole names, in their order: stored keys differ from it only among names that
share their first 479 bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final

from google.protobuf.message import DecodeError

from kvserver.mvcc.backend.api import Pair
from kvserver.mvcc.backend.tables import AUTH_ROLES, AUTH_USERS
from kvserver.proto import auth_pb2

STORED_KEY_BYTES_MAX: Final = 511
"""LMDB's limit."""
DIGEST_BYTES: Final = hashlib.sha256().digest_size
BEGINNING_BYTES: Final = STORED_KEY_BYTES_MAX - DIGEST_BYTES
NAMED_TABLES: Final = (AUTH_USERS, AUTH_ROLES)


def stored_key(name: bytes) -> bytes:
    if len(name) <= STORED_KEY_BYTES_MAX:
        return name
    return name[:BEGINNING_BYTES] + hashlib.sha256(name).digest()


def whole_names(pieces: Iterable[list[Pair]]) -> Iterator[list[Pair]]:
    """Rows of a named table by their whole names, ascending, as they come from the file."""
    alike: list[Pair] = []
    """Rows whose keys have one beginning; their order is known when all of them are."""
    for piece in pieces:
        rows: list[Pair] = []
        for key, record in piece:
            if alike and not key.startswith(alike[0][0][:BEGINNING_BYTES]):
                rows += sorted(alike)
                alike = []
            if len(key) >= BEGINNING_BYTES:
                alike.append((whole_name(key, record), record))
            else:
                rows.append((key, record))
        yield rows
    if alike:
        yield sorted(alike)


def whole_name(key: bytes, record: bytes) -> bytes:
    """The name that is stored under `key` with this record."""
    if len(key) < STORED_KEY_BYTES_MAX:
        return key
    try:
        name = auth_pb2.User.FromString(record).name  # a role's is the same field
    except DecodeError:
        return key
    return name if stored_key(name) == key else key
